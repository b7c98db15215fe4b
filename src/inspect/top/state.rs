//! What is looked at, and what each key changes of it.

use std::time::Duration;

use ipvs_sys::{DestinationKey, ServiceKey};

use super::names::ServiceName;

/// A line of the overview.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Service(ServiceName),
    Server(ServiceKey),
}

/// What names a line, so that the selection stays with it when the order changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    Group(Group),
    Backend(DestinationKey),
    /// A connection: these are selected by place.
    Line(usize),
}

/// By what the lines are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    Name,
    Backends,
    Conns,
    PacketsIn,
    PacketsOut,
    BytesIn,
    BytesOut,
    Active,
    Inactive,
    Weight,
}

impl Column {
    /// In the order of the screen; the keys `1` to `9` and `0` take them.
    pub const ALL: [Self; 10] = [
        Self::Name,
        Self::Backends,
        Self::Conns,
        Self::PacketsIn,
        Self::PacketsOut,
        Self::BytesIn,
        Self::BytesOut,
        Self::Active,
        Self::Inactive,
        Self::Weight,
    ];

    /// As the command line names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Backends => "backends",
            Self::Conns => "conns",
            Self::PacketsIn => "packets-in",
            Self::PacketsOut => "packets-out",
            Self::BytesIn => "bytes-in",
            Self::BytesOut => "bytes-out",
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Weight => "weight",
        }
    }

    /// Whether it takes the backends of all virtual servers to order them by it.
    pub const fn needs_backends(self) -> bool {
        matches!(
            self,
            Self::Backends | Self::Active | Self::Inactive | Self::Weight
        )
    }

    fn step(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|column| *column == self);
        Self::ALL[(at.unwrap_or(0) + by) % Self::ALL.len()]
    }
}

/// Where one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Overview,
    Backends(Group),
    Connections(Group, DestinationKey),
}

/// A place with what is selected there. Those above it wait to be come back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screen {
    pub place: Place,
    pub filter: String,
    pub selected: Option<RowKey>,
    /// The first line on the screen.
    pub first: usize,
}

impl Screen {
    const fn new(place: Place) -> Self {
        Self {
            place,
            filter: String::new(),
            selected: None,
            first: 0,
        }
    }
}

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
}

/// What a key asks of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Draw,
    /// Something else is looked at: it must be read.
    Read,
    Quit,
}

/// All that the keys can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    screen: Screen,
    above: Vec<Screen>,
    pub sort: Column,
    pub reverse: bool,
    /// Lines are Services, not virtual servers.
    pub by_service: bool,
    /// Only Services of this namespace.
    pub namespace: Option<String>,
    pub interval: Duration,
    pub paused: bool,
    pub help: bool,
    /// The filter is being typed.
    pub typing: bool,
}

impl State {
    /// The overview.
    pub const fn new(interval: Duration, sort: Column, namespace: Option<String>) -> Self {
        Self {
            screen: Screen::new(Place::Overview),
            above: Vec::new(),
            sort,
            reverse: false,
            by_service: true,
            namespace,
            interval,
            paused: false,
            help: false,
            typing: false,
        }
    }

    /// With a filter, as if it had been typed.
    #[must_use]
    pub fn filtered(mut self, text: String) -> Self {
        self.screen.filter = text;
        self
    }

    pub const fn screen(&self) -> &Screen {
        &self.screen
    }

    /// The place of the selected line among these; the first where it is gone.
    pub fn selected(&self, rows: &[RowKey]) -> usize {
        let selected = self.screen.selected.as_ref();
        let at = selected.and_then(|selected| rows.iter().position(|row| row == selected));
        at.unwrap_or(0)
    }

    /// Moves the lines on the screen as little as it takes to have the selected one among them.
    pub fn scroll(&mut self, rows: &[RowKey], height: usize) {
        let at = self.selected(rows);
        // Before anything is selected the screen stays with the first lines.
        let last_first = rows.len().saturating_sub(height);
        let lowest = (at + 1).saturating_sub(height);
        self.screen.first = self
            .screen
            .first
            .clamp(lowest, at.max(lowest))
            .min(last_first);
    }

    /// Does what a key says; `rows` are the lines of now, `page` how many fit.
    pub fn press(&mut self, input: Input, rows: &[RowKey], page: usize) -> Effect {
        if self.typing {
            return self.typed(input);
        }
        if self.help {
            self.help = false;
            return Effect::Draw;
        }
        match input {
            Input::Char('q') => return Effect::Quit,
            Input::Char('?' | 'h') => self.help = true,
            Input::Char('/') => self.typing = true,
            Input::Char('p' | ' ') => {
                self.paused = !self.paused;
                if !self.paused {
                    return Effect::Read;
                }
            }
            Input::Char('r') => self.reverse = !self.reverse,
            Input::Char('s') => return self.order(self.sort.step(1)),
            Input::Char('S') => return self.order(self.sort.step(Column::ALL.len() - 1)),
            Input::Char(digit @ '0'..='9') => {
                let number = digit.to_digit(10).unwrap_or(0) as usize;
                return self.order(Column::ALL[(number + 9) % 10]);
            }
            Input::Char('+') => self.interval = longer(self.interval),
            Input::Char('-') => self.interval = shorter(self.interval),
            Input::Char('g') => return self.regroup(),
            Input::Enter | Input::Char('l') => return self.open(rows),
            Input::Escape | Input::Backspace => return self.close(),
            Input::Up | Input::Char('k') => self.select(rows, |at| at.saturating_sub(1)),
            Input::Down | Input::Char('j') => self.select(rows, |at| at + 1),
            Input::PageUp => self.select(rows, |at| at.saturating_sub(page)),
            Input::PageDown => self.select(rows, |at| at + page),
            Input::Home => self.select(rows, |_| 0),
            Input::End | Input::Char('G') => self.select(rows, |_| usize::MAX),
            Input::Char(_) => {}
        }
        Effect::Draw
    }

    fn typed(&mut self, input: Input) -> Effect {
        match input {
            Input::Char(c) => self.screen.filter.push(c),
            Input::Backspace => {
                self.screen.filter.pop();
            }
            Input::Enter => self.typing = false,
            Input::Escape => {
                self.typing = false;
                self.screen.filter.clear();
            }
            _ => {}
        }
        Effect::Draw
    }

    fn order(&mut self, column: Column) -> Effect {
        self.sort = column;
        self.reverse = false;
        if column.needs_backends() {
            Effect::Read
        } else {
            Effect::Draw
        }
    }

    fn regroup(&mut self) -> Effect {
        if self.screen.place == Place::Overview {
            self.by_service = !self.by_service;
            self.screen.selected = None;
        }
        Effect::Draw
    }

    fn select(&mut self, rows: &[RowKey], to: impl Fn(usize) -> usize) {
        let at = to(self.selected(rows)).min(rows.len().saturating_sub(1));
        self.screen.selected = rows.get(at).cloned();
    }

    fn open(&mut self, rows: &[RowKey]) -> Effect {
        let place = match (&self.screen.place, rows.get(self.selected(rows))) {
            (Place::Overview, Some(RowKey::Group(group))) => Place::Backends(group.clone()),
            (Place::Backends(group), Some(RowKey::Backend(backend))) => {
                Place::Connections(group.clone(), *backend)
            }
            _ => return Effect::Draw,
        };
        // So that one comes back to where one was, also when it was selected by being the first.
        self.select(rows, |at| at);
        let above = std::mem::replace(&mut self.screen, Screen::new(place));
        self.above.push(above);
        Effect::Read
    }

    fn close(&mut self) -> Effect {
        match self.above.pop() {
            Some(above) => self.screen = above,
            None => self.screen.filter.clear(),
        }
        Effect::Read
    }
}

fn longer(interval: Duration) -> Duration {
    let next = INTERVALS.iter().find(|next| **next > interval);
    next.copied().unwrap_or(interval)
}

fn shorter(interval: Duration) -> Duration {
    let next = INTERVALS.iter().rev().find(|next| **next < interval);
    next.copied().unwrap_or(interval)
}

/// From two seconds on multiples of the kernel's refresh.
const INTERVALS: [Duration; 8] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];
