//! The columns of the table: their titles, and what each line has there.

use super::rows::Row;
use super::sample::Rates;
use super::state::Column;
use super::units::{count, rate};

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    Name,
    State,
    Backends,
    Weight,
    Share,
    Conns,
    PacketsIn,
    PacketsOut,
    BytesIn,
    BytesOut,
    Active,
    Inactive,
}

impl Shown {
    /// The column that orders by it.
    pub const fn column(self) -> Option<Column> {
        Some(match self {
            Self::Name => Column::Name,
            Self::Backends => Column::Backends,
            Self::Weight => Column::Weight,
            Self::Conns | Self::Share => Column::Conns,
            Self::PacketsIn => Column::PacketsIn,
            Self::PacketsOut => Column::PacketsOut,
            Self::BytesIn => Column::BytesIn,
            Self::BytesOut => Column::BytesOut,
            Self::Active => Column::Active,
            Self::Inactive => Column::Inactive,
            Self::State => return None,
        })
    }

    /// Two lines.
    pub const fn title(self, wide: bool) -> &'static str {
        match (self, wide) {
            (Self::Name, _) => "\nSERVICE",
            (Self::State, _) => "\nSTATE",
            (Self::Backends, true) => "\nBACKENDS",
            (Self::Backends, false) => "BACK-\nENDS",
            (Self::Weight, true) => "\nWEIGHT",
            (Self::Weight, false) => "\nWGHT",
            (Self::Share, _) => "\nSHARE",
            (Self::Conns, true) => "\nCONN/S",
            (Self::Conns, false) => "CONN\n/S",
            (Self::PacketsIn, true) => "PKT/S\nIN",
            (Self::PacketsOut, true) => "PKT/S\nOUT",
            (Self::PacketsIn, false) => "PKT/S\nIN",
            (Self::PacketsOut, false) => "PKT/S\nOUT",
            (Self::BytesIn, true) => "BYTES/S\nIN",
            (Self::BytesOut, true) => "BYTES/S\nOUT",
            (Self::BytesIn, false) => "B/S\nIN",
            (Self::BytesOut, false) => "B/S\nOUT",
            (Self::Active, true) => "\nACTIVE",
            (Self::Active, false) => "ACT-\nIVE",
            (Self::Inactive, true) => "\nINACTIVE",
            (Self::Inactive, false) => "IN-\nACT",
        }
    }

    /// What a line has there.
    pub fn text(self, row: &Row) -> String {
        let per_second = |of: fn(&Rates) -> f64| rate(row.rates.as_ref().map(of));
        match self {
            Self::Name => row.name.clone(),
            Self::State => row.state.clone(),
            Self::Backends => match row.backends {
                None => "-".to_owned(),
                Some((taking, all)) => {
                    let sign = if row.uneven { "!" } else { "" };
                    if taking == all {
                        format!("{all}{sign}")
                    } else {
                        format!("{taking}/{all}{sign}")
                    }
                }
            },
            Self::Weight => count(row.weight),
            Self::Share => row
                .share
                .map_or_else(|| "-".to_owned(), |share| format!("{share:.0}%")),
            Self::Conns => per_second(|rates| rates.conns),
            Self::PacketsIn => per_second(|rates| rates.in_packets),
            Self::PacketsOut => per_second(|rates| rates.out_packets),
            Self::BytesIn => per_second(|rates| rates.in_bytes),
            Self::BytesOut => per_second(|rates| rates.out_bytes),
            Self::Active => count(row.active),
            Self::Inactive => count(row.inactive),
        }
    }
}
