//! A choice of cells in which every two values that occur together do so at least once.
//!
//! Most faults need no more than two circumstances to show. Pairs are of values of two dimensions; beside
//! them every article of the law is met over each transport. The choice is the same in every run.

use std::collections::BTreeSet;

use super::cell::Cell;
use super::law::judge;

/// Something that a choice must contain: values of two dimensions, or an article and a transport.
type Pair = (usize, u8, usize, u8);

/// Greedy: again and again the first of the cells that add most.
pub fn pairwise(cells: &[Cell]) -> Vec<Cell> {
    let articles: BTreeSet<_> = cells.iter().map(|cell| judge(cell).article).collect();
    let articles: Vec<_> = articles.into_iter().collect();
    let pairs_of: Vec<BTreeSet<Pair>> = cells
        .iter()
        .map(|cell| {
            let article = judge(cell).article;
            let article = articles.iter().position(|other| *other == article);
            pairs(cell, article.unwrap_or_default())
        })
        .collect();
    let mut open: BTreeSet<Pair> = pairs_of.iter().flatten().copied().collect();
    let mut chosen = Vec::new();
    while !open.is_empty() {
        let gain = |index: &usize| pairs_of[*index].intersection(&open).count();
        // `max_by_key` gives the last of equals.
        let Some(best) = (0..cells.len()).rev().max_by_key(gain) else {
            break;
        };
        open.retain(|pair| !pairs_of[best].contains(pair));
        chosen.push(cells[best]);
    }
    chosen
}

fn pairs(cell: &Cell, article: usize) -> BTreeSet<Pair> {
    let values = [
        cell.policy as u8,
        cell.slices as u8,
        cell.entry as u8,
        cell.client as u8,
        cell.destination as u8,
        cell.family as u8,
        cell.transport as u8,
    ];
    let numbered: Vec<(usize, u8)> = values.into_iter().enumerate().collect();
    let mut pairs = BTreeSet::new();
    for (i, (one, a)) in numbered.iter().enumerate() {
        for (other, b) in &numbered[i + 1..] {
            pairs.insert((*one, *a, *other, *b));
        }
    }
    // Beyond the dimensions: each article is one of its own.
    pairs.insert((
        values.len() + article,
        0,
        values.len() - 1,
        cell.transport as u8,
    ));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::cell::all;

    #[test]
    fn every_pair_that_occurs_and_every_article_over_every_transport_is_chosen() {
        let cells = all();
        let chosen = pairwise(&cells);
        assert!(
            chosen.len() * 10 < cells.len(),
            "{} of {}",
            chosen.len(),
            cells.len()
        );
        for one in &cells {
            let article = judge(one).article;
            assert!(
                chosen
                    .iter()
                    .any(|cell| judge(cell).article == article && cell.transport == one.transport)
            );
            // Two dimensions that matter most, written out.
            assert!(
                chosen
                    .iter()
                    .any(|cell| (cell.client, cell.slices) == (one.client, one.slices))
            );
            assert!(
                chosen
                    .iter()
                    .any(|cell| (cell.family, cell.destination) == (one.family, one.destination))
            );
            assert!(
                chosen
                    .iter()
                    .any(|cell| (cell.policy, cell.transport) == (one.policy, one.transport))
            );
        }
    }

    #[test]
    fn the_choice_is_the_same_each_time() {
        assert_eq!(pairwise(&all()), pairwise(&all()));
    }
}
