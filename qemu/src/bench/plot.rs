//! Pictures of the figures: a group of bars for each, on a logarithmic scale.

use std::ops::Range;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const OURS: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const LINUX: RGBColor = RGBColor(0xb0, 0xb0, 0xb0);
const BAR: RGBColor = RGBColor(0xd6, 0x27, 0x28);
/// Pixels.
const WIDTH: u32 = 900;
const ROW: u32 = 46;
const HEAD: u32 = 60;
const FOOT: u32 = 40;
const NAMES: u32 = 110;
const MARGIN: u32 = 70;
/// How wide the number behind a bar may be.
const NUMBER: i32 = 60;
const FONT: (&str, u32) = ("sans-serif", 13);
const TITLE: (&str, u32) = ("sans-serif", 17);

/// One figure in a picture.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is called.
    pub name: String,
    /// Ours.
    pub ours: Option<f64>,
    /// Linux's.
    pub linux: Option<f64>,
    /// The most that ours may be.
    pub bar: Option<f64>,
}

type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::combinators::LogCoord<f64>, RangedCoordf64>,
>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Draws the rows, first on top, in an SVG file. Rows without a value are left out; returns whether
/// there was anything to draw.
///
/// # Errors
/// The file cannot be written.
pub fn draw(path: &Path, title: &str, rows: &[Row]) -> Result<bool> {
    let rows: Vec<&Row> =
        rows.iter().filter(|row| row.ours.is_some() || row.linux.is_some()).collect();
    if rows.is_empty() {
        return Ok(false);
    }
    let height = HEAD + FOOT + ROW * rows.len() as u32;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    paint(&area, title, &rows)
        .map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))?;
    Ok(true)
}

fn paint(area: &Area, title: &str, rows: &[&Row]) -> Result<()> {
    let fail = |error| anyhow!("{error:?}");
    area.fill(&WHITE).map_err(fail)?;
    let scale = scale(rows);
    let mut chart = ChartBuilder::on(area)
        .margin_top(HEAD)
        .margin_right(MARGIN)
        .x_label_area_size(FOOT)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(scale.clone().log_scale(), 0.0..rows.len() as f64)
        .map_err(fail)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|value| tidy(*value))
        .label_style(FONT)
        .draw()
        .map_err(fail)?;
    for (index, row) in rows.iter().enumerate() {
        let middle = (rows.len() - index) as f64 - 0.5;
        paint_row(area, &mut chart, row, middle, scale.start)?;
    }
    let text = |text: &str, at, style: TextStyle| {
        area.draw(&Text::new(text.to_owned(), at, style)).map_err(|error| anyhow!("{error:?}"))
    };
    text(title, (NAMES as i32, 12), TITLE.into_font().into())?;
    let mut left = NAMES as i32;
    let bars = rows.iter().any(|row| row.bar.is_some());
    let legend = [("ours", OURS), ("Linux", LINUX), ("at most", BAR)];
    for (name, color) in legend.into_iter().take(if bars { 3 } else { 2 }) {
        let square = [(left, 40), (left + 10, 50)];
        area.draw(&Rectangle::new(square, color.filled())).map_err(fail)?;
        text(name, (left + 15, 39), FONT.into_font().into())?;
        left += 85;
    }
    area.present().map_err(fail)
}

/// The name, the bars with their values, and the mark of what is allowed.
fn paint_row(area: &Area, chart: &mut Chart, row: &Row, middle: f64, start: f64) -> Result<()> {
    let fail = |error| anyhow!("{error:?}");
    let pixel = |chart: &Chart, x: f64, y: f64| chart.backend_coord(&(x, y));
    let centred =
        |horizontal| TextStyle::from(FONT.into_font()).pos(Pos::new(horizontal, VPos::Center));
    let (left, level) = pixel(chart, start, middle);
    area.draw(&Text::new(row.name.clone(), (left - 8, level), centred(HPos::Right)))
        .map_err(fail)?;
    for (value, color, from, to) in [(row.ours, OURS, 0.02, 0.36), (row.linux, LINUX, -0.36, -0.02)]
    {
        let Some(value) = value else { continue };
        let corners = [(start, middle + from), (value, middle + to)];
        chart.draw_series([Rectangle::new(corners, color.filled())]).map_err(fail)?;
        let (x, y) = pixel(chart, value, middle + f64::midpoint(from, to));
        // Behind the mark as well, where that is beside this bar and would cross the number.
        let mark = row.bar.filter(|_| to > 0.0).map(|bar| pixel(chart, bar, middle).0);
        let x = mark.filter(|mark| (x..x + NUMBER).contains(mark)).unwrap_or(x);
        area.draw(&Text::new(tidy(value), (x + 5, y), centred(HPos::Left))).map_err(fail)?;
    }
    if let Some(bar) = row.bar {
        let line = vec![(bar, middle - 0.04), (bar, middle + 0.42)];
        chart.draw_series([PathElement::new(line, BAR.stroke_width(2))]).map_err(fail)?;
    }
    Ok(())
}

/// Whole powers of ten around all values.
fn scale(rows: &[&Row]) -> Range<f64> {
    let values = rows.iter().flat_map(|row| [row.ours, row.linux, row.bar]).flatten();
    let (least, most) = values
        .filter(|value| *value > 0.0)
        .fold((f64::MAX, 1.0_f64), |(least, most), value| (least.min(value), most.max(value)));
    10_f64.powf(least.min(most).log10().floor())..10_f64.powf((most * 1.01).log10().ceil())
}

/// With thousands apart, and a digit behind the point where that says something.
fn tidy(value: f64) -> String {
    if value < 100.0 {
        let text = format!("{value:.1}");
        return text.strip_suffix(".0").map_or(text.clone(), str::to_owned);
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: Option<f64>, linux: Option<f64>) -> Row {
        Row { name: "name".to_owned(), ours, linux, bar: Some(80.0) }
    }

    #[test]
    fn the_scale_holds_everything() {
        let (one, other) = (row(Some(4.2), None), row(None, Some(1_200_000.0)));
        let scale = scale(&[&one, &other]);
        assert!((scale.start, scale.end) == (1.0, 10_000_000.0), "{scale:?}");
    }

    #[test]
    fn numbers_are_easy_to_read() {
        let texts = [4.0, 12.34, 999.6, 1_234_567.0].map(tidy);
        assert_eq!(texts, ["4", "12.3", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_picture_has_a_text_for_each_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plot.svg");
        assert!(draw(&path, "title", &[row(Some(70.0), Some(350.0)), row(None, None)]).unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("title") && text.matches(">\nname\n<").count() == 1, "{text}");
        assert!(!draw(&path, "title", &[row(None, None)]).unwrap());
    }
}
