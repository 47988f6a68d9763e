//! Plots of a backtest as SVG: what is served beside its baseline and what happened.

use super::plots::{ACTUAL, EXPECTED};
use super::sheet::{Axis, Chart, Drawn, FAINT, Mark, PlotError, RIGHT, Sheet, chart};
use habitus_engine::training::{Backtest, CHURN_BASELINE, Curves, Decile, SERVED, VALUE_BASELINE};
use habitus_engine::version::ChurnIs;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use std::iter::once;

type File = Result<(&'static str, String), PlotError>;
type Points = Vec<(f64, f64)>;

/// The plots by file name, as SVG text. Where nothing was served or nothing spent there is nothing to
/// draw. The same numbers give the same bytes.
///
/// # Errors
/// [`PlotError::Number`] where a number has no place on an axis.
pub fn backtest_plots(backtest: &Backtest) -> Result<Vec<(&'static str, String)>, PlotError> {
    let curves = backtest.curves();
    let of = |name: &str| curves.iter().find(|curves| curves.model == name);
    let Some(served) = of(SERVED) else { return Ok(Vec::new()) };
    let when = format!(
        "Cut-off {}, {} days up to {}; {} customers",
        backtest.cutoff,
        backtest.clock.horizon_days,
        backtest.until,
        backtest.customers.len()
    );
    let mut files = Vec::new();
    if let Some(deciles) = &served.calibration {
        let baseline = of(CHURN_BASELINE).and_then(|curves| curves.calibration.as_ref());
        files.push(calibration(deciles, baseline, when.clone(), backtest.churn_is)?);
    }
    if let (Some(gain), Some(best)) = (&served.gain, backtest.best_gain()) {
        let baseline = of(VALUE_BASELINE).and_then(|curves: &Curves| curves.gain.as_ref());
        files.push(gains(gain, baseline, &best, when.clone())?);
    }
    if let Some(deciles) = &served.spend {
        files.push(by_decile(deciles, when)?);
    }
    Ok(files)
}

fn calibration(
    served: &[Decile],
    baseline: Option<&Vec<Decile>>,
    when: String,
    churn_is: ChurnIs,
) -> File {
    let (what, did) = match churn_is {
        ChurnIs::Silence | ChurnIs::Label => ("no purchase", "bought nothing"),
        ChurnIs::Inactivity(_) => ("inactive", "became inactive"),
    };
    let points = |deciles: &[Decile]| -> Points {
        deciles.iter().map(|decile| (decile.mean_predicted, decile.mean_actual)).collect()
    };
    let sheet = Sheet {
        file: "calibration.svg",
        title: &format!("P({what}): what was promised, and how many {did}"),
        subtitle: format!("{when}, in ten bins of equal count"),
        keys: &[
            (SERVED, EXPECTED, Mark::Triangle),
            (CHURN_BASELINE, ACTUAL, Mark::Circle),
            ("promise kept", FAINT, Mark::Line),
        ],
    };
    let (served, baseline) = (points(served), points(baseline.map_or(&[], Vec::as_slice)));
    let all = || served.iter().chain(&baseline);
    sheet.check(all().flat_map(|&(x, y)| [x, y]))?;
    let x = Axis::shares(1.0, format!("Mean P({what})"));
    let y = Axis::shares(1.0, format!("Share that {did}")).beside();
    sheet.draw(|root| {
        let mut chart = chart(root, &x, &y, RIGHT)?;
        dashed(&mut chart, [(0.0, 0.0), (1.0, 1.0)])?;
        line(&mut chart, &baseline, ACTUAL)?;
        chart.draw_series(baseline.iter().map(|&at| Circle::new(at, 9, ACTUAL.filled())))?;
        line(&mut chart, &served, EXPECTED)?;
        chart.draw_series(served.iter().map(|&at| TriangleMarker::new(at, 11, EXPECTED)))?;
        Ok(())
    })
}

fn gains(served: &[f64], baseline: Option<&Vec<f64>>, best: &[f64], when: String) -> File {
    let points = |shares: &[f64]| -> Points {
        let last = shares.len().saturating_sub(1).max(1) as f64;
        shares
            .iter()
            .enumerate()
            .map(|(i, share)| (100.0 * i as f64 / last, 100.0 * share))
            .collect()
    };
    let sheet = Sheet {
        file: "gain.svg",
        title: "How much of all spend the customers with the largest predictions had",
        subtitle: when,
        keys: &[
            (SERVED, EXPECTED, Mark::Line),
            (VALUE_BASELINE, ACTUAL, Mark::Line),
            ("who knows the future", FAINT, Mark::Line),
        ],
    };
    let (served, best) = (points(served), points(best));
    let baseline = points(baseline.map_or(&[], Vec::as_slice));
    sheet.check(served.iter().chain(&best).chain(&baseline).map(|&(_, share)| share))?;
    let x = Axis::shares(100.0, "Customers by predicted spend, largest first (%)".to_owned());
    let y = Axis::shares(100.0, "Of all spend (%)".to_owned()).beside();
    sheet.draw(|root| {
        let mut chart = chart(root, &x, &y, RIGHT)?;
        dashed(&mut chart, [(0.0, 0.0), (100.0, 100.0)])?;
        line(&mut chart, &best, FAINT)?;
        line(&mut chart, &baseline, ACTUAL)?;
        line(&mut chart, &served, EXPECTED)
    })
}

fn by_decile(deciles: &[Decile], when: String) -> File {
    let sheet = Sheet {
        file: "deciles.svg",
        title: "Spend by tenths of the customers: predicted, and actual",
        subtitle: when,
        keys: &[("actual", ACTUAL, Mark::Box), ("predicted", EXPECTED, Mark::Box)],
    };
    let bars: Vec<_> = deciles
        .iter()
        .zip(0u32..)
        .flat_map(|(decile, i)| {
            let at = f64::from(i);
            [(at - 0.2, decile.mean_actual, ACTUAL), (at + 0.2, decile.mean_predicted, EXPECTED)]
        })
        .collect();
    let labels = (1..=deciles.len()).map(|decile| decile.to_string()).collect();
    let x = Axis::categories(labels, "Tenth by predicted spend, least first".to_owned());
    let heights: Points = bars.iter().map(|&(at, height, _)| (at, height)).collect();
    let y = sheet.amounts(&heights, "Spend per customer within the horizon")?;
    sheet.draw(|root| {
        let mut chart = chart(root, &x, &y, RIGHT)?;
        chart.draw_series(bars.iter().map(|&(at, height, colour)| {
            Rectangle::new([(at - 0.18, 0.0), (at + 0.18, height)], colour.filled())
        }))?;
        Ok(())
    })
}

fn line(chart: &mut Chart, points: &[(f64, f64)], colour: RGBColor) -> Drawn {
    chart.draw_series(once(PathElement::new(points.to_vec(), colour.stroke_width(4))))?;
    Ok(())
}

fn dashed(chart: &mut Chart, ends: [(f64, f64); 2]) -> Drawn {
    chart.draw_series(once(DashedPathElement::new(ends, 14, 10, FAINT.stroke_width(3))))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use habitus_engine::domain::{CustomerId, Day};
    use habitus_engine::training::{Answers, Clock};

    /// Fifty customers, of whom every fourth spends so much.
    fn backtest(spend: f64) -> Backtest {
        let row = |of: fn(u32) -> f64| -> Vec<f64> { (0..50).map(of).collect() };
        let answers = |model: &str, silence: Option<Vec<f64>>| Answers {
            model: model.to_owned(),
            silence,
            spend: Some(row(|i| f64::from(i) / 3.0)),
            ..Answers::default()
        };
        let day = Day(10_000);
        Backtest {
            cutoff: day,
            until: day.plus(60),
            clock: Clock {
                fit: day,
                calibrate: day,
                measure: day,
                as_of: day,
                window_days: 60,
                horizon_days: 60,
            },
            customers: (0..50).map(|i| CustomerId::new(&i.to_string())).collect(),
            churn_is: ChurnIs::Silence,
            churned: (0..50).map(|i| Some(i % 4 != 0)).collect(),
            purchases: row(|i| f64::from(u8::from(i % 4 == 0))),
            spend: (0..50).map(|i| if i % 4 == 0 { spend } else { 0.0 }).collect(),
            is_valued: vec![true; 50],
            is_churning: vec![true; 50],
            models: vec![
                answers(VALUE_BASELINE, None),
                answers(CHURN_BASELINE, Some(row(|i| f64::from(i) / 49.0))),
                answers(SERVED, Some(row(|i| 1.0 - f64::from(i) / 49.0))),
            ],
        }
    }

    #[test]
    fn what_was_promised_is_drawn_beside_what_happened() {
        let plots = backtest_plots(&backtest(12.5)).unwrap();
        let files: Vec<&str> = plots.iter().map(|(file, _)| *file).collect();
        assert_eq!(files, ["calibration.svg", "gain.svg", "deciles.svg"]);
        for (file, svg) in &plots {
            assert!(svg.contains("60 days up to 1997-07-18; 50 customers"), "{file}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{file}");
        }
        assert_eq!(plots, backtest_plots(&backtest(12.5)).unwrap());
    }

    #[test]
    fn what_did_not_happen_or_was_not_answered_has_no_plot() {
        let plots = backtest_plots(&backtest(0.0)).unwrap();
        let files: Vec<&str> = plots.iter().map(|(file, _)| *file).collect();
        assert_eq!(files, ["calibration.svg", "deciles.svg"]);
        let mut nobody = backtest(1.0);
        nobody.models.clear();
        assert_eq!(backtest_plots(&nobody), Ok(Vec::new()));
        let mut wrong = backtest(1.0);
        wrong.models[2].spend = Some(vec![-1.0; 50]);
        let plot = "deciles.svg";
        assert_eq!(backtest_plots(&wrong), Err(PlotError::Number { plot }));
    }
}
