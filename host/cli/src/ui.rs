//! What the user sees: results, notes, tables, progress. Colour and drawing happen on a terminal alone.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

/// The least width that tables are fitted into.
const LEAST_WIDTH: u16 = 40;

/// For what is wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// For what deserves a look.
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default().bold();
/// For what went well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
/// For what should stand out.
pub(crate) const EMPHASIS: Style = Style::new().bold();

/// Prints a line of the command's result. A reader that left, as in `vespid models | head -1`, is no failure.
pub(crate) fn result(line: impl Display) -> io::Result<()> {
    match writeln!(anstream::stdout(), "{line}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Prints a line beside the result. Where standard error is closed there is nobody to tell.
pub(crate) fn note(line: impl Display) {
    let _nobody_reads = writeln!(anstream::stderr(), "{line}");
}

/// `text` in `style`.
pub(crate) fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// A cell whose text has a colour on a terminal.
pub(crate) fn coloured(text: &str, style: Style) -> Cell {
    let cell = Cell::new(text);
    match style.get_fg_color() {
        Some(anstyle::Color::Ansi(AnsiColor::Red)) => cell.fg(comfy_table::Color::Red),
        Some(anstyle::Color::Ansi(AnsiColor::Yellow)) => cell.fg(comfy_table::Color::Yellow),
        Some(anstyle::Color::Ansi(AnsiColor::Green)) => cell.fg(comfy_table::Color::Green),
        _ => cell,
    }
}

/// A table with that header: framed and wrapped to the width of a terminal, else columns set apart by spaces, a line
/// a row, so that other programs can read it.
pub(crate) fn table<H: Into<comfy_table::Row>>(header: H) -> Table {
    let mut table = Table::new();
    if io::stdout().is_terminal() {
        table.load_style(presets::UTF8_FULL_CONDENSED.with_rounded_corners());
        // A terminal that tells no width, or a useless one, is left to break the lines itself.
        if table.width().is_some_and(|width| width >= LEAST_WIDTH) {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
    } else {
        table.load_style(presets::NOTHING).force_no_tty();
    }
    table.set_header(header);
    table
}

/// Prints a table as the command's result.
pub(crate) fn print_table(table: &Table) -> io::Result<()> {
    for line in table.lines() {
        result(line.trim_end())?;
    }
    Ok(())
}

/// A spinner on standard error that says what is under way; nothing where that is no terminal.
pub(crate) fn spinner(message: impl Into<String>) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(message.into());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Says what is under way for long: by the spinner on a terminal, elsewhere in a line of its own.
pub(crate) fn progress(spinner: &ProgressBar, line: &str) {
    if io::stderr().is_terminal() {
        spinner.set_message(line.to_owned());
    } else {
        note(line);
    }
}

/// A bar on standard error for the transfer of `length` bytes.
pub(crate) fn transfer(length: u64, message: impl Into<String>) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(message.into());
    let template = "{msg} {bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A number of bytes for people, such as `27.4 KiB`.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// Text from elsewhere without what could steer the terminal: control characters show as escapes.
pub(crate) fn clean(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
