//! `ipvs-agent top`: the terminal, the keys and the clock around `inspect::top`.

mod source;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use ratatui::DefaultTerminal;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal;
use ratatui::layout::Rect;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::source::Source;
use super::{print, tell};
use crate::cli::{TopArgs, TopColumn};
use crate::inspect::top::rows::{self, rows};
use crate::inspect::top::state::{Place, RowKey};
use crate::inspect::top::{Column, Content, Effect, Input, State, View, view};

/// Shows the view until `q`, or prints it once.
pub fn run(args: &TopArgs) -> anyhow::Result<()> {
    if !args.once && !io::stdout().is_terminal() {
        bail!("standard output is no terminal; `ipvs-agent top --once` prints one frame as text");
    }
    let interval = Duration::try_from(args.interval).context("--interval")?;
    let sort = column(args.sort);
    let state = State::new(interval, sort, args.namespace.clone()).filtered(args.filter.clone());
    let source = Source::open(&args.socket)?;
    if args.once {
        once(source, state, args.width)
    } else {
        live(source, state)
    }
}

/// One frame on standard output, as high as it needs to be.
fn once(mut source: Source, mut state: State, width: Option<u16>) -> anyhow::Result<()> {
    // The backends of what will be on the first screen are measured, too.
    source.read(&state, &[])?;
    source.wait_for_names(NAMES_AT_MOST);
    let end = source.now() + state.interval.max(ONCE_AT_LEAST);
    let step = state.interval.min(ONCE_STEP);
    loop {
        let keys = keys(&rows(&source.data(), &state));
        source.read(&state, &keys)?;
        let left = end.saturating_sub(source.now());
        if left.is_zero() {
            break;
        }
        // Between the first and the last reading none is needed where both see many refreshes.
        let step = if state.interval > ONCE_AT_LEAST {
            left
        } else {
            step
        };
        std::thread::sleep(step.min(left));
    }
    state.interval = state.interval.max(ONCE_AT_LEAST);
    let width = match width {
        Some(width) => width,
        None if io::stdout().is_terminal() => terminal::size().map_or(ONCE_WIDTH, |size| size.0),
        None => ONCE_WIDTH,
    };
    for note in source.notes() {
        tell(format_args!("ipvs-agent: {note}"));
    }
    let rows = rows(&source.data(), &state);
    let view = View {
        content: Content::Rows(&rows),
        notes: &[],
        live: false,
        ..source.view(&state)
    };
    let area = Rect::new(0, 0, width, view.whole());
    let mut buffer = Buffer::empty(area);
    view.render(area, &mut buffer);
    print(&view::text(&buffer))
}

/// The terminal as it was, however this ends; a panic restores it before its message.
struct Screen(DefaultTerminal);

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn live(mut source: Source, mut state: State) -> anyhow::Result<()> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, ended.clone())?;
    }
    source.read(&state, &[])?;
    source.wait_for_names(NAMES_AT_FIRST);
    let mut screen = Screen(ratatui::try_init().context("cannot use the terminal")?);
    let mut read = source.now();
    let mut frame = draw(&mut screen.0, &source, &mut state)?;
    while !ended.load(Ordering::Relaxed) {
        let due = read + state.interval;
        let left = if state.paused {
            Duration::MAX
        } else {
            due.saturating_sub(source.now())
        };
        let effect = match input(left)? {
            Some(Press::Key(input)) => state.press(input, &frame.lines, frame.page),
            Some(Press::Redraw) => Effect::Draw,
            Some(Press::Interrupt) => Effect::Quit,
            None if source.now() >= due && !state.paused => Effect::Read,
            None if source.names_came() => Effect::Draw,
            None => continue,
        };
        match effect {
            Effect::Quit => break,
            Effect::Read => {
                source.read_again(&state, frame.visible(&state));
                read = source.now();
            }
            Effect::Draw => {}
        }
        frame = draw(&mut screen.0, &source, &mut state)?;
    }
    Ok(())
}

/// What is on the screen.
struct Drawn {
    /// What names each line, also of those that do not fit.
    lines: Vec<RowKey>,
    page: usize,
}

impl Drawn {
    fn visible(&self, state: &State) -> &[RowKey] {
        let first = state.screen().first.min(self.lines.len());
        let last = (first + self.page).min(self.lines.len());
        &self.lines[first..last]
    }
}

/// Draws a frame.
fn draw(
    terminal: &mut DefaultTerminal,
    source: &Source,
    state: &mut State,
) -> anyhow::Result<Drawn> {
    let rows = rows(&source.data(), state);
    let content = match state.screen().place {
        Place::Connections(..) => Content::Connections(source.connections()),
        _ => Content::Rows(&rows),
    };
    let height = terminal.size()?.height;
    let lines = view_of(source, state, content).keys();
    let page = view_of(source, state, content).page(height);
    state.scroll(&lines, page);
    let view = view_of(source, state, content);
    terminal.draw(|frame| view.render(frame.area(), frame.buffer_mut()))?;
    Ok(Drawn { lines, page })
}

fn view_of<'a>(source: &'a Source, state: &'a State, content: Content<'a>) -> View<'a> {
    View {
        content,
        ..source.view(state)
    }
}

fn keys(rows: &[rows::Row]) -> Vec<RowKey> {
    rows.iter().map(|row| row.key.clone()).collect()
}

enum Press {
    Key(Input),
    Redraw,
    Interrupt,
}

/// Waits for a key so long, or a little: a signal has to be seen meanwhile.
fn input(at_most: Duration) -> io::Result<Option<Press>> {
    if !event::poll(at_most.min(SIGNALS_SEEN))? {
        return Ok(None);
    }
    Ok(match event::read()? {
        Event::Key(key) if key.kind != KeyEventKind::Release => pressed(key),
        Event::Resize(..) => Some(Press::Redraw),
        _ => None,
    })
}

fn pressed(key: KeyEvent) -> Option<Press> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Press::Interrupt),
            KeyCode::Char('l') => Some(Press::Redraw),
            _ => None,
        };
    }
    let input = match key.code {
        KeyCode::Char(c) => Input::Char(c),
        KeyCode::Enter | KeyCode::Right => Input::Enter,
        KeyCode::Esc | KeyCode::Left => Input::Escape,
        KeyCode::Backspace => Input::Backspace,
        KeyCode::Up => Input::Up,
        KeyCode::Down => Input::Down,
        KeyCode::PageUp => Input::PageUp,
        KeyCode::PageDown => Input::PageDown,
        KeyCode::Home => Input::Home,
        KeyCode::End => Input::End,
        _ => return None,
    };
    Some(Press::Key(input))
}

const fn column(column: TopColumn) -> Column {
    match column {
        TopColumn::Name => Column::Name,
        TopColumn::Backends => Column::Backends,
        TopColumn::Conns => Column::Conns,
        TopColumn::PacketsIn => Column::PacketsIn,
        TopColumn::PacketsOut => Column::PacketsOut,
        TopColumn::BytesIn => Column::BytesIn,
        TopColumn::BytesOut => Column::BytesOut,
        TopColumn::Active => Column::Active,
        TopColumn::Inactive => Column::Inactive,
        TopColumn::Weight => Column::Weight,
    }
}

/// A refresh of the kernel's counters comes in this time, even a late one.
const ONCE_AT_LEAST: Duration = Duration::from_millis(2250);
const ONCE_STEP: Duration = Duration::from_millis(250);
const ONCE_WIDTH: u16 = 120;
/// An agent that is at work on something large answers late.
const NAMES_AT_MOST: Duration = Duration::from_secs(10);
/// The first frame is worth a moment, so that it has names.
const NAMES_AT_FIRST: Duration = Duration::from_millis(300);
const SIGNALS_SEEN: Duration = Duration::from_millis(100);
