//! Plots of the model of purchases as SVG: what it expected beside what happened.

use super::sheet::{
    Axis, Canvas, Chart, Drawn, FAINT, INK, Mark, PlotError, RIGHT, SIZE, Sheet, chart, grouped,
    text, width,
};
use habitus_engine::domain::Day;
use habitus_engine::training::{AliveGrid, PurchaseTracking, TrackedWeek};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use std::iter::once;

// Blue and vermilion of Okabe and Ito, which every kind of colour vision tells apart.
pub(super) const ACTUAL: RGBColor = RGBColor(0, 114, 178);
pub(super) const EXPECTED: RGBColor = RGBColor(213, 94, 0);
const NOBODY: RGBColor = RGBColor(232, 232, 232);

/// The plots by file name, as SVG text. What tracking has no numbers for has no plot. The same
/// numbers give the same bytes.
///
/// # Errors
/// [`PlotError::Number`] where a number has no place on an axis.
pub fn plots(tracking: &PurchaseTracking) -> Result<Vec<(&'static str, String)>, PlotError> {
    let mut files = Vec::new();
    if !tracking.weeks.is_empty() {
        files.push(weekly(tracking)?);
        files.push(cumulative(tracking)?);
    }
    if !tracking.frequencies.is_empty() {
        files.push(repeat_purchases(tracking)?);
    }
    if !tracking.conditional.is_empty() {
        files.push(conditional_expectations(tracking)?);
    }
    let cells = cells(&tracking.p_alive);
    if cells.iter().any(|(_, _, cell)| cell.is_some()) {
        files.push(p_alive(tracking, &cells)?);
    }
    Ok(files)
}

type File = Result<(&'static str, String), PlotError>;

fn weekly(tracking: &PurchaseTracking) -> File {
    let weeks = &tracking.weeks;
    let points = |value: fn(&TrackedWeek) -> f64| -> Vec<(f64, f64)> {
        weeks.iter().map(|week| (f64::from(week.ends.0), value(week))).collect()
    };
    let is_marked = weeks.len() <= 30;
    let marks = if is_marked { [Mark::Circle, Mark::Triangle] } else { [Mark::Line; 2] };
    let sheet = Sheet {
        file: "tracking-weekly.svg",
        title: "Repeat purchases per week: what happened, and what the model expected",
        subtitle: fitted(tracking),
        keys: &[("actual", ACTUAL, marks[0]), ("expected", EXPECTED, marks[1])],
    };
    let (actual, expected) = (points(|week| week.actual), points(|week| week.expected));
    let x = Axis::weeks(weeks.iter().map(|week| week.ends));
    let y = sheet.amounts(actual.iter().chain(&expected), "Repeat purchase days per week")?;
    sheet.draw(|root| {
        let mut chart = chart(root, &x, &y, RIGHT)?;
        part(root, &mut chart, tracking.fitted_at)?;
        lines(&mut chart, actual, expected, (3, 5), is_marked)
    })
}

fn cumulative(tracking: &PurchaseTracking) -> File {
    let weeks = &tracking.weeks;
    let x = Axis::weeks(weeks.iter().map(|week| week.ends));
    let points = |value: fn(&TrackedWeek) -> f64| -> Vec<(f64, f64)> {
        let sums = weeks.iter().scan(0.0, |sum, week| {
            *sum += value(week);
            Some((f64::from(week.ends.0), *sum))
        });
        once((x.range.start, 0.0)).chain(sums).collect()
    };
    let sheet = Sheet {
        file: "tracking-cumulative.svg",
        title: "Repeat purchases added up: what happened, and what the model expected",
        subtitle: fitted(tracking),
        keys: &[("actual", ACTUAL, Mark::Line), ("expected", EXPECTED, Mark::Line)],
    };
    let (actual, expected) = (points(|week| week.actual), points(|week| week.expected));
    let y =
        sheet.amounts(actual.iter().chain(&expected), "Repeat purchase days since the start")?;
    sheet.draw(|root| {
        let mut chart = chart(root, &x, &y, RIGHT)?;
        part(root, &mut chart, tracking.fitted_at)?;
        // The thin line lies on the broad one, so that both are seen where they agree.
        lines(&mut chart, actual, expected, (10, 4), false)
    })
}

fn repeat_purchases(tracking: &PurchaseTracking) -> File {
    let counts = &tracking.frequencies;
    let bars: Vec<_> = counts
        .iter()
        .zip(0u32..)
        .flat_map(|(count, i)| {
            let at = f64::from(i);
            [(at - 0.2, count.actual, ACTUAL), (at + 0.2, count.expected, EXPECTED)]
        })
        .collect();
    let sheet = Sheet {
        file: "repeat-purchases.svg",
        title: "How many customers bought again, and how often",
        subtitle: fitted(tracking),
        keys: &[("actual", ACTUAL, Mark::Box), ("expected", EXPECTED, Mark::Box)],
    };
    let name = format!("Repeat purchase days up to {}", tracking.fitted_at);
    let x = Axis::categories(open_ended(counts.iter().map(|count| count.frequency)), name);
    let heights: Vec<_> = bars.iter().map(|&(at, height, _)| (at, height)).collect();
    let y = sheet.amounts(&heights, "Customers")?;
    sheet.draw(|root| {
        let mut chart = chart(root, &x, &y, RIGHT)?;
        chart.draw_series(bars.iter().map(|&(at, height, colour)| {
            Rectangle::new([(at - 0.18, 0.0), (at + 0.18, height)], colour.filled())
        }))?;
        let room = chart.backend_coord(&(0.38, 0.0)).0 - chart.backend_coord(&(0.0, 0.0)).0;
        let label = |height: f64| grouped(height, 0);
        if heights.iter().all(|&(_, height)| width(&label(height), 22) <= room) {
            for &(at, height) in &heights {
                let (x, y) = chart.backend_coord(&(at, height));
                let style = text(22, FAINT, HPos::Center, VPos::Bottom);
                root.draw_text(&label(height), &style, (x, y - 4))?;
            }
        }
        Ok(())
    })
}

fn conditional_expectations(tracking: &PurchaseTracking) -> File {
    let means = &tracking.conditional;
    let actual: Vec<_> = means.iter().zip(0u32..).map(|(m, i)| (f64::from(i), m.actual)).collect();
    let expected: Vec<_> =
        means.iter().zip(0u32..).map(|(m, i)| (f64::from(i), m.expected)).collect();
    let sheet = Sheet {
        file: "conditional-expectations.svg",
        title: "Purchases after the cut-off, by how often customers bought before it",
        subtitle: fitted(tracking),
        keys: &[("actual", ACTUAL, Mark::Circle), ("expected", EXPECTED, Mark::Triangle)],
    };
    let name = format!("Repeat purchase days up to {} (below: customers)", tracking.fitted_at);
    let mut x = Axis::categories(open_ended(means.iter().map(|mean| mean.frequency)), name);
    x.room += 40;
    let name = "Purchase days per customer in the window after";
    let y = sheet.amounts(actual.iter().chain(&expected), name)?;
    sheet.draw(|root| {
        let mut chart = chart(root, &x, &y, RIGHT)?;
        lines(&mut chart, actual, expected, (4, 4), true)?;
        for (mean, i) in means.iter().zip(0u32..) {
            let at = f64::from(i);
            if !x.label(at).is_empty() {
                let (x, y) = chart.backend_coord(&(at, 0.0));
                let style = text(22, FAINT, HPos::Center, VPos::Top);
                root.draw_text(&grouped(mean.n_customers as f64, 0), &style, (x, y + 52))?;
            }
        }
        Ok(())
    })
}

/// Column, row and probability, as far as both axes go.
type Cell = (f64, f64, Option<f64>);

fn cells(grid: &AliveGrid) -> Vec<Cell> {
    let rows = (0u32..).zip(grid.p_alive.iter().zip(&grid.frequencies));
    rows.flat_map(|(i, (row, _))| {
        let columns = (0u32..).zip(row.iter().zip(&grid.days_since_last));
        columns.map(move |(j, (cell, _))| (f64::from(j), f64::from(i), *cell))
    })
    .collect()
}

fn p_alive(tracking: &PurchaseTracking, cells: &[Cell]) -> File {
    let AliveGrid { age_days, frequencies, days_since_last, .. } = &tracking.p_alive;
    let has_gaps = cells.iter().any(|(_, _, cell)| cell.is_none());
    let sheet = Sheet {
        file: "p-alive.svg",
        title: "Probability of still being a customer, by purchases and silence",
        subtitle: format!(
            "Customers whose first purchase was {} days before {}; {}",
            grouped(f64::from(*age_days), 0),
            tracking.fitted_at,
            tracking.family
        ),
        keys: if has_gaps { &[("cannot occur", NOBODY, Mark::Box)] } else { &[] },
    };
    sheet.check(cells.iter().filter_map(|&(_, _, cell)| cell))?;
    let labels = |numbers: &[u32]| numbers.iter().map(u32::to_string).collect();
    let x = Axis::categories(labels(days_since_last), "Days since the last purchase".to_owned());
    let y = Axis::categories(labels(frequencies), "Repeat purchase days".to_owned());
    let y = y.beside();
    sheet.draw(|root| {
        let chart = chart(root, &x, &y, 280)?;
        for &(x, y, cell) in cells {
            let colour = cell.map_or(NOBODY, |p| ViridisRGB::get_color(p.clamp(0.0, 1.0) as f32));
            // One further to the right and down, or the background would shine through seams.
            let (left, top) = chart.backend_coord(&(x - 0.5, y + 0.5));
            let (right, bottom) = chart.backend_coord(&(x + 0.5, y - 0.5));
            let corners = [(left, top), (right + 1, bottom + 1)];
            root.draw(&Rectangle::new(corners, colour.filled()))?;
        }
        if days_since_last.len() <= 20 && frequencies.len() <= 20 {
            for &(x, y, p) in cells {
                let Some(p) = p else { continue };
                let colour = if p < 0.55 { WHITE } else { INK };
                let style = text(24, colour, HPos::Center, VPos::Center);
                root.draw_text(&format!("{p:.2}"), &style, chart.backend_coord(&(x, y)))?;
            }
        }
        let (right, bottom) = chart.backend_coord(&(x.range.end, y.range.start));
        let (_, top) = chart.backend_coord(&(x.range.end, y.range.end));
        scale(root, right + 60, top, bottom)
    })
}

/// Which colour means which probability, beside the heat map.
fn scale(root: &Canvas, left: i32, top: i32, bottom: i32) -> Drawn {
    const STEPS: i32 = 100;
    let at = |step: i32| bottom - (bottom - top) * step / STEPS;
    for step in 0..STEPS {
        let colour = ViridisRGB::get_color((step as f32 + 0.5) / STEPS as f32);
        let corners = [(left, at(step)), (left + 40, top)];
        root.draw(&Rectangle::new(corners, colour.filled()))?;
    }
    for (step, label) in [(0, "0"), (25, "0.25"), (50, "0.5"), (75, "0.75"), (100, "1")] {
        let line = vec![(left + 40, at(step)), (left + 48, at(step))];
        root.draw(&PathElement::new(line, FAINT.stroke_width(2)))?;
        root.draw_text(label, &text(24, INK, HPos::Left, VPos::Center), (left + 58, at(step)))?;
    }
    root.draw_text("P(alive)", &text(28, INK, HPos::Left, VPos::Bottom), (left, top - 14))
}

/// Parts what the model saw from what came after the cut-off.
fn part(root: &Canvas, chart: &mut Chart, cut_off: Day) -> Drawn {
    let at = f64::from(cut_off.0);
    let (days, top) = (chart.x_range(), chart.y_range().end);
    if at <= days.start || days.end <= at {
        return Ok(());
    }
    let after = Rectangle::new([(at, 0.0), (days.end, top)], INK.mix(0.04).filled());
    chart.draw_series(once(after))?;
    let line = [(at, 0.0), (at, top)];
    chart.draw_series(once(DashedPathElement::new(line, 14, 10, FAINT.stroke_width(3))))?;
    let (x, y) = chart.backend_coord(&(at, top));
    let (left, _) = chart.backend_coord(&(days.start, top));
    let (before, after) = ("calibration: the model saw this", "holdout: it did not see this");
    if left <= x - 14 - width(before, 24) {
        root.draw_text(before, &text(24, FAINT, HPos::Right, VPos::Bottom), (x - 14, y - 8))?;
    }
    if x + 14 + width(after, 24) <= SIZE.0 as i32 {
        root.draw_text(after, &text(24, FAINT, HPos::Left, VPos::Bottom), (x + 14, y - 8))?;
    }
    Ok(())
}

/// Both lines, the expected one on top, with marks of different shape where there is room for them.
fn lines(
    chart: &mut Chart,
    actual: Vec<(f64, f64)>,
    expected: Vec<(f64, f64)>,
    widths: (u32, u32),
    is_marked: bool,
) -> Drawn {
    if is_marked {
        chart.draw_series(actual.iter().map(|&at| Circle::new(at, 9, ACTUAL.filled())))?;
        chart.draw_series(expected.iter().map(|&at| TriangleMarker::new(at, 11, EXPECTED)))?;
    }
    chart.draw_series(once(PathElement::new(actual, ACTUAL.stroke_width(widths.0))))?;
    chart.draw_series(once(PathElement::new(expected, EXPECTED.stroke_width(widths.1))))?;
    Ok(())
}

fn fitted(tracking: &PurchaseTracking) -> String {
    format!("{}, fitted to purchases up to {}", tracking.family, tracking.fitted_at)
}

/// Frequencies as labels, of which the last stands for all above as well.
fn open_ended(frequencies: impl Iterator<Item = u32>) -> Vec<String> {
    let mut labels: Vec<String> = frequencies.map(|frequency| frequency.to_string()).collect();
    if let Some(last) = labels.last_mut() {
        last.push('+');
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use habitus_engine::training::{TrackedCount, TrackedMean};

    /// So many weeks, frequencies and columns, of which every number is a multiple of the scale.
    fn tracking(n: u32, scale: f64) -> PurchaseTracking {
        let row = |x: u32| -> Vec<Option<f64>> {
            (0..n)
                .map(|j| (x > 0 || j + 1 == n).then(|| scale.min(1.0) / f64::from(1 + j)))
                .collect()
        };
        let series = || (0..n).map(|i| (i, scale * f64::from(i % 7), scale * f64::from(i % 5)));
        PurchaseTracking {
            family: "BG/NBD <&>".to_owned(),
            fitted_at: Day(10_000),
            weeks: series()
                .map(|(i, actual, expected)| {
                    let ends = Day(10_000 + 7 * (i as i32 - n as i32 / 2));
                    TrackedWeek { ends, actual, expected }
                })
                .collect(),
            frequencies: series()
                .map(|(frequency, actual, expected)| TrackedCount { frequency, actual, expected })
                .collect(),
            conditional: series()
                .map(|(frequency, actual, expected)| TrackedMean {
                    frequency,
                    n_customers: 1234,
                    actual,
                    expected,
                })
                .collect(),
            p_alive: AliveGrid {
                age_days: 270,
                frequencies: (0..n).collect(),
                days_since_last: (0..n).map(|j| 30 * j).collect(),
                p_alive: (0..n.min(50)).map(row).collect(),
            },
        }
    }

    /// Every element that is opened is closed, in the reverse order, and none has stray brackets.
    fn assert_well_formed(svg: &str) {
        let mut open = Vec::new();
        for piece in svg.split('<').skip(1) {
            let (tag, after) = piece.split_once('>').expect("a tag ends");
            assert!(!after.contains('>'), "{piece}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(tag.split(' ').next().unwrap());
            }
        }
        assert!(open.is_empty() && !svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn names_what_it_shows() {
        let plots = plots(&tracking(8, 1.0)).unwrap();
        let says = [
            ("tracking-weekly.svg", "Repeat purchase days per week"),
            ("tracking-cumulative.svg", "Repeat purchase days since the start"),
            ("repeat-purchases.svg", "Repeat purchase days up to 1997-05-19"),
            ("conditional-expectations.svg", "Purchase days per customer in the window after"),
            ("p-alive.svg", "Days since the last purchase"),
        ];
        assert_eq!(plots.len(), says.len());
        for ((file, svg), (name, axis)) in plots.iter().zip(says) {
            assert_eq!(*file, name);
            assert!(svg.contains(axis) && svg.contains("BG/NBD &lt;&amp;&gt;"), "{file}");
            assert_well_formed(svg);
        }
        assert!(plots[0].1.contains("holdout") && plots[4].1.contains("cannot occur"));
    }

    #[test]
    fn any_amount_of_anything_is_drawn() {
        for (n, scale) in [(1, 1.0), (2, 0.0), (9, 0.0), (9, 1e-9), (600, 1e9), (40, 0.013)] {
            let plots = plots(&tracking(n, scale)).unwrap();
            assert_eq!(plots.len(), 5, "{n} {scale}");
            plots.iter().for_each(|(_, svg)| assert_well_formed(svg));
        }
    }

    #[test]
    fn the_same_numbers_give_the_same_bytes() {
        assert_eq!(plots(&tracking(50, 3.7)), plots(&tracking(50, 3.7)));
    }

    #[test]
    fn nothing_gives_no_file() {
        assert_eq!(plots(&tracking(0, 1.0)), Ok(Vec::new()));
        let mut ragged = tracking(3, 1.0);
        ragged.p_alive.p_alive = vec![vec![], vec![Some(0.5); 9]];
        assert_eq!(plots(&ragged).unwrap().len(), 5);
        ragged.p_alive.days_since_last.clear();
        assert_eq!(plots(&ragged).unwrap().len(), 4);
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for amount in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
            let mut tracking = tracking(3, 1.0);
            tracking.weeks[1].expected = amount;
            let plot = "tracking-weekly.svg";
            assert_eq!(plots(&tracking), Err(PlotError::Number { plot }));
        }
    }
}
