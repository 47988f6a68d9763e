//! The sheet that a plot is drawn on: title, legend and axes.

use habitus_engine::domain::Day;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::ops::Range;
use thiserror::Error;

/// Twice what is shown: coordinates are whole numbers, and lines would have steps otherwise.
pub const SIZE: (u32, u32) = (1920, 1080);
const TOP: u32 = 230;
/// The margin where nothing stands beside the plot.
pub const RIGHT: u32 = 90;

pub const INK: RGBColor = RGBColor(34, 34, 34);
pub const FAINT: RGBColor = RGBColor(96, 96, 96);
const GRID: RGBColor = RGBColor(226, 226, 226);

/// A number from which on nothing is drawn; no log has as many purchases.
const LIMIT: f64 = 1e15;

pub type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Axis, Axis>>;
pub type Drawn<T = ()> = Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// Why there is no plot.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlotError {
    #[error("{plot} would show a number that is negative, not finite or beyond all measure")]
    Number { plot: &'static str },
    #[error("{plot} cannot be drawn: {reason}")]
    Drawing { plot: &'static str, reason: String },
}

/// How a series looks in the legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Line,
    Circle,
    Triangle,
    Box,
}

/// What stands above a plot, where no data can be covered.
pub struct Sheet<'a> {
    pub file: &'static str,
    pub title: &'a str,
    pub subtitle: String,
    pub keys: &'a [(&'a str, RGBColor, Mark)],
}

impl Sheet<'_> {
    pub fn check(&self, numbers: impl IntoIterator<Item = f64>) -> Result<(), PlotError> {
        let is_drawable = numbers.into_iter().all(|number| (0.0..LIMIT).contains(&number));
        if is_drawable { Ok(()) } else { Err(PlotError::Number { plot: self.file }) }
    }

    /// An upright axis from zero to beyond the largest of the points.
    pub fn amounts<'p>(
        &self,
        points: impl IntoIterator<Item = &'p (f64, f64)>,
        name: &str,
    ) -> Result<Axis, PlotError> {
        let amounts: Vec<f64> = points.into_iter().map(|&(_, amount)| amount).collect();
        self.check(amounts.iter().copied())?;
        Ok(Axis::amounts(amounts.into_iter().fold(0.0, f64::max), name.to_owned()).beside())
    }

    pub fn draw(
        &self,
        plot: impl FnOnce(&Canvas) -> Drawn,
    ) -> Result<(&'static str, String), PlotError> {
        let mut svg = String::new();
        let drawn = {
            let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            self.head(&root).and_then(|()| plot(&root)).and_then(|()| root.present())
        };
        drawn.map_err(|error| PlotError::Drawing { plot: self.file, reason: error.to_string() })?;
        // Shown at half its size, and with a title for those who listen.
        let body = svg.split_once('\n').map_or("", |(_, body)| body);
        let ((w, h), title) = (SIZE, self.title);
        let head = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{}\" \
             height=\"{}\" role=\"img\">\n<title>{title}</title>\n",
            w / 2,
            h / 2
        );
        Ok((self.file, head + body))
    }

    fn head(&self, root: &Canvas) -> Drawn {
        root.fill(&WHITE)?;
        let bold = text(40, INK, HPos::Left, VPos::Top);
        let bold = TextStyle { font: bold.font.style(FontStyle::Bold), ..bold };
        root.draw_text(self.title, &bold, (40, 36))?;
        root.draw_text(&self.subtitle, &text(28, FAINT, HPos::Left, VPos::Top), (40, 94))?;
        let mut x = 40;
        for &(label, colour, mark) in self.keys {
            let (y, centre) = (160, (x + 32, 160));
            if mark == Mark::Box {
                root.draw(&Rectangle::new([(x, y - 14), (x + 64, y + 14)], colour.filled()))?;
            } else {
                let line = vec![(x, y), (x + 64, y)];
                root.draw(&PathElement::new(line, colour.stroke_width(6)))?;
            }
            match mark {
                Mark::Circle => root.draw(&Circle::new(centre, 9, colour.filled()))?,
                Mark::Triangle => root.draw(&TriangleMarker::new(centre, 11, colour))?,
                Mark::Line | Mark::Box => {}
            }
            root.draw_text(label, &text(28, INK, HPos::Left, VPos::Center), (x + 78, y))?;
            x += 78 + width(label, 28) + 50;
        }
        Ok(())
    }
}

/// A range with its ticks, chosen here, because those of plotters hang on the machine's logarithm.
#[derive(Debug, Clone)]
pub struct Axis {
    pub range: Range<f64>,
    ticks: Vec<(f64, String)>,
    pub name: String,
    /// Between the plot and the edge of the name.
    pub room: u32,
}

impl Axis {
    fn amounts(max: f64, name: String) -> Axis {
        let max = if max < 1e-6 { 1.0 } else { max };
        let (mut unit, mut decimals) = (1.0, 0usize);
        while max > 60.0 * unit {
            unit *= 10.0;
        }
        while max <= 6.0 * unit {
            unit /= 10.0;
            decimals += 1;
        }
        let step = [1.0, 2.0, 5.0].map(|n| n * unit).into_iter().find(|step| max <= 8.0 * step);
        let (step, decimals) = match step {
            Some(step) => (step, decimals),
            None => (10.0 * unit, decimals.saturating_sub(1)),
        };
        // A little more than the largest, which would touch the edge otherwise.
        let n = (1.04 * max / step).ceil();
        let ticks = (0..=n as u32).map(|i| f64::from(i) * step);
        let ticks = ticks.map(|at| (at, grouped(at, decimals))).collect();
        Axis { range: 0.0..n * step, ticks, name, room: 100 }
    }

    /// From nothing to all of it, which is 1 or 100.
    pub fn shares(all: f64, name: String) -> Axis {
        let decimals = usize::from(all < 10.0);
        let ticks = (0..=5).map(|fifth| all * f64::from(fifth) / 5.0);
        let ticks = ticks.map(|at| (at, grouped(at, decimals))).collect();
        Axis { range: 0.0..all, ticks, name, room: 100 }
    }

    pub fn categories(labels: Vec<String>, name: String) -> Axis {
        let n = labels.len();
        let stride = n.div_ceil(15).max(1);
        let is_told = |i: usize| i + 1 == n || (i.is_multiple_of(stride) && i + stride < n);
        let range = -0.5..n as f64 - 0.5;
        let labels = labels.into_iter().enumerate().filter(|(i, _)| is_told(*i));
        let ticks = labels.map(|(i, label)| (i as f64, label)).collect();
        Axis { range, ticks, name, room: 100 }
    }

    /// From the start of the first week to the end of the last, ticked at the starts of months or
    /// years, or by weeks where there are no two of these.
    pub fn weeks(ends: impl Iterator<Item = Day>) -> Axis {
        let ends: Vec<Day> = ends.collect();
        let first = ends.iter().min().copied().unwrap_or(Day(0)).plus(-7);
        let last = ends.iter().max().copied().unwrap_or(Day(0));
        let months: Vec<(i32, i32, String)> = (first.0..=last.0)
            .take(100_000)
            .filter_map(|day| {
                let month = Day(day).to_string().strip_suffix("-01")?.to_owned();
                let (year, of_year) = month.split_once('-')?;
                let index = 12 * year.parse::<i32>().ok()? + of_year.parse::<i32>().ok()? - 1;
                Some((day, index, month))
            })
            .collect();
        let strides = [1, 2, 3, 6, 12, 24, 60, 120];
        let stride = strides.into_iter().find(|n| months.len() as i32 / n <= 8).unwrap_or(600);
        let ticks = months.into_iter().filter(|(_, index, _)| index % stride == 0);
        let mut ticks: Vec<(f64, String)> = ticks
            .map(|(day, index, month)| {
                let is_year = stride % 12 == 0;
                (f64::from(day), if is_year { (index / 12).to_string() } else { month })
            })
            .collect();
        if ticks.len() < 2 {
            let told = ends.iter().step_by(ends.len().div_ceil(8).max(1));
            ticks = told.map(|day| (f64::from(day.0), day.to_string())).collect();
        }
        let range = f64::from(first.0)..f64::from(last.0);
        Axis { range, ticks, name: "End of the week".to_owned(), room: 100 }
    }

    /// The same for the left side, as wide as its longest label.
    pub fn beside(self) -> Axis {
        let widest = self.ticks.iter().map(|(_, label)| width(label, 24)).max().unwrap_or(0);
        Axis { room: 80 + widest.unsigned_abs(), ..self }
    }

    pub fn label(&self, at: f64) -> String {
        let tick = self.ticks.iter().find(|(tick, _)| *tick == at);
        tick.map_or_else(String::new, |(_, label)| label.clone())
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, pixels: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range.clone()).map(value, pixels)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Lines between the ticks are asked for too; there are none.
        let ticks = if hint.weight().allow_light_points() { &[][..] } else { &self.ticks };
        ticks.iter().map(|(at, _)| *at).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.label(*value)
    }
}

/// The axes and their grid, under the head of the sheet.
pub fn chart<'a>(root: &Canvas<'a>, x: &Axis, y: &Axis, right: u32) -> Drawn<Chart<'a>> {
    let mut chart = ChartBuilder::on(root)
        .margin_top(TOP)
        .margin_right(right)
        .margin_bottom(24)
        .margin_left(30)
        .x_label_area_size(x.room)
        .y_label_area_size(y.room)
        .build_cartesian_2d(x.clone(), y.clone())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID.stroke_width(2))
        .light_line_style(TRANSPARENT)
        .axis_style(FAINT.stroke_width(2))
        .label_style(text(24, INK, HPos::Left, VPos::Top))
        .axis_desc_style(text(28, INK, HPos::Left, VPos::Top))
        .set_all_tick_mark_size(8)
        .x_desc(&x.name)
        .y_desc(&y.name)
        .draw()?;
    Ok(chart)
}

/// Text of so many pixels; the backend divides the size of a font by 1.24.
pub fn text(size: u32, colour: RGBColor, h: HPos, v: VPos) -> TextStyle<'static> {
    ("sans-serif", 1.24 * f64::from(size)).into_font().color(&colour).pos(Pos::new(h, v))
}

/// About as wide as the text is in most fonts without serifs, rather more than less.
pub fn width(text: &str, size: i32) -> i32 {
    text.chars().count() as i32 * size * 6 / 10
}

/// A number with commas between thousands.
pub fn grouped(number: f64, decimals: usize) -> String {
    let digits = format!("{number:.decimals$}");
    let whole = digits.find('.').unwrap_or(digits.len());
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if 0 < i && i < whole && (whole - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn amounts_are_ticked_at_round_numbers() {
        let amounts = |max| Axis::amounts(max, String::new());
        assert_eq!(labels(&amounts(0.5)), ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6"]);
        assert_eq!(labels(&amounts(1_100.0))[..3], ["0", "200", "400"]);
        assert_eq!(amounts(1_100.0).range, 0.0..1_200.0);
        for max in [0.0, 1e-5, 0.7, 1.0, 8.0, 59.0, 60.0, 1e6, 0.99 * LIMIT] {
            let axis = amounts(max);
            assert!((3..=10).contains(&axis.ticks.len()) && max < axis.range.end, "{max}");
        }
    }

    #[test]
    fn days_are_ticked_by_weeks_months_or_years() {
        let weeks = |n: i32| Axis::weeks((0..n).map(|i| Day(10_000 + 7 * i)));
        assert_eq!(labels(&weeks(1)), ["1997-05-19"]);
        assert_eq!(labels(&weeks(11)), ["1997-06", "1997-07"]);
        assert_eq!(labels(&weeks(300)), ["1998", "1999", "2000", "2001", "2002", "2003"]);
        assert!(labels(&Axis::weeks([Day(i32::MIN), Day(i32::MAX)].into_iter())).len() < 10);
    }

    #[test]
    fn many_categories_share_labels() {
        let axis = Axis::categories((0..100).map(|i| i.to_string()).collect(), String::new());
        assert!(axis.ticks.len() <= 15 && labels(&axis).ends_with(&["99"]));
    }

    #[test]
    fn thousands_are_parted() {
        assert_eq!(grouped(1_234_567.891, 1), "1,234,567.9");
        assert_eq!(grouped(999.0, 0), "999");
    }
}
