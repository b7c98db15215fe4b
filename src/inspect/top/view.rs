//! Lines and state → a frame.
//!
//! Colours only repeat what a word or a sign says too, so that nothing is lost without them.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{
    Cell, HighlightSpacing, Paragraph, Row, StatefulWidget, Table, TableState, Widget,
};

use super::columns::Shown;
use super::connections::Connections;
use super::names::server_text;
use super::rows;
use super::state::{Group, Place, RowKey, State};

/// What stands in the table.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    Rows(&'a [rows::Row]),
    Connections(&'a Connections),
}

/// All that is shown.
#[derive(Debug)]
pub struct View<'a> {
    pub state: &'a State,
    pub content: Content<'a>,
    pub node: &'a str,
    pub kernel: &'a str,
    /// What the last reading took.
    pub cost: Duration,
    /// What is wrong or missing, a line each.
    pub notes: &'a [String],
    pub colour: bool,
    /// A terminal has keys and a selected line, a page of text has neither.
    pub live: bool,
}

impl View<'_> {
    /// How many lines of the table fit.
    pub fn page(&self, height: u16) -> usize {
        usize::from(height.saturating_sub(self.around()))
    }

    /// The height at which all lines fit.
    pub fn whole(&self) -> u16 {
        let lines = u16::try_from(self.length()).unwrap_or(u16::MAX);
        lines.saturating_add(self.around())
    }

    /// Draws it all.
    pub fn render(&self, area: Rect, buffer: &mut Buffer) {
        let mut rest = area;
        for line in self.heading(area.width) {
            line.render(cut(&mut rest, 1), buffer);
        }
        let bottom = u16::from(self.live);
        let height = rest.height.saturating_sub(bottom);
        let table = cut(&mut rest, height);
        if self.state.help {
            Paragraph::new(HELP).render(table, buffer);
        } else {
            self.table(table, buffer);
        }
        if self.live {
            self.bottom().render(rest, buffer);
        }
    }

    fn around(&self) -> u16 {
        let notes = u16::try_from(self.notes.len()).unwrap_or(0);
        let total = u16::from(matches!(self.content, Content::Rows(_)));
        2 + notes + TABLE_HEAD + total + u16::from(self.live)
    }

    const fn length(&self) -> usize {
        match self.content {
            Content::Rows(rows) => rows.len(),
            Content::Connections(connections) => connections.shown.len(),
        }
    }

    fn heading(&self, width: u16) -> Vec<Line<'_>> {
        let state = self.state;
        let cost = self.cost.as_secs_f64() * 1000.0;
        let every = match state.interval.as_secs_f64() {
            _ if state.paused => "PAUSED".to_owned(),
            seconds => format!("every {seconds}s"),
        };
        let left = format!("ipvs-agent top  {}  Linux {}", self.node, self.kernel);
        let right = format!("{every}  read in {cost:.1} ms");
        let gap = usize::from(width)
            .saturating_sub(left.len() + right.len())
            .max(2);
        let first = Line::from(vec![
            Span::styled(left, self.style(Style::new().add_modifier(Modifier::BOLD))),
            Span::raw(" ".repeat(gap)),
            Span::raw(right),
        ]);
        let mut second = match &state.screen().place {
            Place::Overview => match (state.by_service, &state.namespace) {
                (true, None) => "Services".to_owned(),
                (true, Some(namespace)) => format!("Services of namespace {namespace}"),
                (false, None) => "Virtual servers".to_owned(),
                (false, Some(namespace)) => format!("Virtual servers of namespace {namespace}"),
            },
            Place::Backends(group) => format!("{} > backends", group_text(group)),
            Place::Connections(group, backend) => {
                format!("{} > {backend} > connections", group_text(group))
            }
        };
        match self.content {
            Content::Rows(_) => {
                let reverse = if state.reverse { ", reversed" } else { "" };
                second += &format!(", by {}{reverse}", state.sort.name());
            }
            Content::Connections(connections) => {
                second += &format!(": {}", connections.all);
                if connections.shown.len() < connections.all {
                    second += &format!(", the first {} are shown", connections.shown.len());
                }
                if connections.tied > 0 {
                    second += &format!(", clients tied by persistence: {}", connections.tied);
                }
            }
        }
        if !state.screen().filter.is_empty() {
            second += &format!(", with \"{}\"", state.screen().filter);
        }
        let mut lines = vec![first, Line::raw(second)];
        let warning = self.style(Style::new().fg(Color::Yellow));
        lines.extend(
            self.notes
                .iter()
                .map(|note| Line::styled(format!("! {note}"), warning)),
        );
        lines
    }

    fn table(&self, area: Rect, buffer: &mut Buffer) {
        let first = self.state.screen().first;
        let height = usize::from(area.height).saturating_sub(usize::from(TABLE_HEAD));
        let table = match self.content {
            Content::Connections(connections) => connection_table(connections, first, height),
            Content::Rows(rows) => {
                self.row_table(rows, first, height.saturating_sub(1), area.width)
            }
        };
        let mut selection = TableState::new();
        let mut table = table.column_spacing(1);
        if self.live {
            let keys: Vec<_> = self.keys();
            selection.select(Some(self.state.selected(&keys).saturating_sub(first)));
            table = table
                .highlight_symbol("> ")
                .highlight_spacing(HighlightSpacing::Always)
                .row_highlight_style(self.style(Style::new().add_modifier(Modifier::REVERSED)));
        }
        StatefulWidget::render(table, area, buffer, &mut selection);
    }

    /// What names each line.
    pub fn keys(&self) -> Vec<RowKey> {
        match self.content {
            Content::Rows(rows) => rows.iter().map(|row| row.key.clone()).collect(),
            Content::Connections(connections) => {
                (0..connections.shown.len()).map(RowKey::Line).collect()
            }
        }
    }

    fn row_table(
        &self,
        all: &[rows::Row],
        first: usize,
        height: usize,
        width: u16,
    ) -> Table<'static> {
        let columns = self.columns(width);
        let number = if width < WIDE {
            NARROW_NUMBER
        } else {
            WIDE_NUMBER
        };
        let widths = columns.iter().map(|column| match column {
            Shown::Name => Constraint::Fill(1),
            Shown::State => Constraint::Length(STATE),
            _ => Constraint::Length(number),
        });
        let head = columns.iter().map(|column| {
            let ordered = column.column() == Some(self.state.sort);
            let style = if ordered {
                Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
            } else {
                Style::new()
            };
            let title = match column {
                Shown::Name if self.state.screen().place != Place::Overview => "\nBACKEND",
                Shown::Name if !self.state.by_service => "\nVIRTUAL SERVER",
                column => column.title(width >= WIDE),
            };
            Cell::new(aligned(title, *column)).style(self.style(style))
        });
        let total = rows::total(all);
        let foot = Row::new(
            columns
                .iter()
                .map(|c| Cell::new(aligned(&c.text(&total), *c))),
        );
        let bold = self.style(Style::new().add_modifier(Modifier::BOLD));
        let lines = all.iter().skip(first).take(height).map(|row| {
            let cells = columns.iter().map(|column| {
                let colour = match column {
                    Shown::Name | Shown::State | Shown::Backends if row.uneven => Color::Magenta,
                    Shown::Name | Shown::State | Shown::Backends if row.draining => Color::Yellow,
                    _ => Color::Reset,
                };
                let style = self.style(Style::new().fg(colour));
                Cell::new(aligned(&column.text(row), *column)).style(style)
            });
            Row::new(cells.collect::<Vec<_>>())
        });
        let lines: Vec<_> = lines.collect();
        Table::new(lines, widths.collect::<Vec<_>>())
            .header(Row::new(head.collect::<Vec<_>>()).height(TABLE_HEAD))
            .footer(foot.style(bold))
    }

    fn columns(&self, width: u16) -> Vec<Shown> {
        let overview = self.state.screen().place == Place::Overview;
        let wide = width >= WIDE;
        let mut columns = vec![Shown::Name];
        match (overview, wide) {
            (true, false) => columns.push(Shown::Backends),
            (true, true) => columns.extend([Shown::Backends, Shown::Weight]),
            (false, false) => columns.extend([Shown::State, Shown::Weight]),
            (false, true) => columns.extend([Shown::State, Shown::Weight, Shown::Share]),
        }
        columns.extend([
            Shown::Conns,
            Shown::PacketsIn,
            Shown::PacketsOut,
            Shown::BytesIn,
            Shown::BytesOut,
            Shown::Active,
            Shown::Inactive,
        ]);
        columns
    }

    fn bottom(&self) -> Line<'_> {
        if self.state.typing {
            return Line::raw(format!("filter: {}_", self.state.screen().filter));
        }
        let keys = match self.state.screen().place {
            _ if self.state.help => "any key: back",
            Place::Overview => {
                "q quit  ? help  / filter  s sort  r reverse  enter backends  g group  p pause"
            }
            Place::Backends(_) => {
                "q quit  ? help  / filter  s sort  r reverse  enter connections  esc back"
            }
            Place::Connections(..) => "q quit  ? help  esc back  p pause",
        };
        Line::styled(keys, self.style(Style::new().add_modifier(Modifier::DIM)))
    }

    /// Without colours only what needs none is left.
    fn style(&self, style: Style) -> Style {
        if self.colour {
            style
        } else {
            Style { fg: None, ..style }
        }
    }
}

/// The frame as text, without blanks at the ends of lines.
pub fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let lines = area.rows().map(|line| {
        let cells = line
            .columns()
            .filter_map(|at| buffer.cell(at.as_position()));
        let line: String = cells.map(ratatui::buffer::Cell::symbol).collect();
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

fn connection_table(connections: &Connections, first: usize, height: usize) -> Table<'static> {
    let lines = connections
        .shown
        .iter()
        .skip(first)
        .take(height)
        .map(|connection| {
            Row::new(vec![
                Cell::new(connection.client.to_string()),
                Cell::new(connection.server.to_string()),
                Cell::new(connection.state.clone()),
                Cell::new(
                    Text::from(format!("{}s", connection.expires)).alignment(Alignment::Right),
                ),
            ])
        });
    let widths = [
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(12),
        Constraint::Length(8),
    ];
    let head = [
        Cell::new("\nCLIENT"),
        Cell::new("\nVIRTUAL SERVER"),
        Cell::new("\nSTATE"),
        Cell::new(Text::from("\nEXPIRES").alignment(Alignment::Right)),
    ];
    Table::new(lines.collect::<Vec<_>>(), widths).header(Row::new(head).height(TABLE_HEAD))
}

fn group_text(group: &Group) -> String {
    match group {
        Group::Service(name) => name.to_string(),
        Group::Server(key) => server_text(key),
    }
}

fn cut(rest: &mut Rect, height: u16) -> Rect {
    let height = height.min(rest.height);
    let top = Rect { height, ..*rest };
    rest.y += height;
    rest.height -= height;
    top
}

fn aligned(text: &str, column: Shown) -> Text<'static> {
    let alignment = match column {
        Shown::Name | Shown::State => Alignment::Left,
        _ => Alignment::Right,
    };
    Text::from(text.to_owned()).alignment(alignment)
}

const HELP: &str = "
  up down j k pgup pgdn home end   select a line
  enter   open: a Service's backends, a backend's connections
  esc     back; in the overview: remove the filter
  s S     order by the next column, the one before
  1 .. 9  by name, backends, conns, packets in, out, bytes in, out, active, inactive
  0       by weight                       r   the other way round
  /       show only lines with a text     g   Services or virtual servers
  p       pause                           + - longer, shorter interval
  q       quit

  BACKENDS 2/3   of three, one drains: weight 0, no new connections
  BACKENDS 3!    the load is uneven: a backend's share of the new connections
                 is far from its weight's share (see its backends)
  CONN/S ..      the kernel refreshes its counters every 2 s; k = 1,000";

const TABLE_HEAD: u16 = 2;
const NARROW_NUMBER: u16 = 5;
const WIDE_NUMBER: u16 = 8;
const STATE: u16 = 9;
/// From this width on there is room for words.
const WIDE: u16 = 110;
