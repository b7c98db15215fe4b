//! What the kernel is told to have, against what the tools make of it.

use ipvs_agent::model::Family;
use ipvs_agent::netfilter::exec::Iptables;
use ipvs_agent::netfilter::probe;

use crate::namespace::{in_namespace, run};

#[test]
fn a_type_that_no_kernel_has_is_missing() {
    in_namespace(|| {
        let names = ["hash:ip,port", "hash:nothing"].map(str::to_owned);
        let found = probe::set_types(names.into()).unwrap();
        let found: Vec<(&str, bool)> = found
            .iter()
            .map(|(name, has)| (name.as_str(), *has))
            .collect();
        assert_eq!(found, [("hash:ip,port", true), ("hash:nothing", false)]);
        run("ipset create ABC hash:ip,port");
    });
}

#[test]
fn tables_of_nftables_are_those_of_nft() {
    in_namespace(|| {
        assert!(probe::nft_tables().unwrap().is_empty());
        run("nft add table ip kube-proxy");
        run("nft add table inet theirs");
        let tables = Vec::from_iter(probe::nft_tables().unwrap());
        assert_eq!(tables, ["kube-proxy", "theirs"]);
    });
}

#[test]
fn dumps_are_those_of_both_variants() {
    in_namespace(|| {
        run("iptables-legacy -N LEGACY");
        run("ip6tables-nft -N NFT");
        for (program, text) in Iptables::dumps() {
            let text = text.unwrap();
            assert_eq!(
                text.contains(":LEGACY "),
                program == "iptables-legacy",
                "{program}"
            );
            assert_eq!(
                text.contains(":NFT "),
                program == "ip6tables-nft",
                "{program}"
            );
        }
    });
}

/// And to ask makes none.
#[test]
fn whether_nftables_takes_tables_is_what_nft_meets() {
    in_namespace(|| {
        for (family, of_nft) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
            assert!(probe::takes_nft_tables(family).unwrap());
            assert!(probe::nft_tables().unwrap().is_empty());
            run(&format!("nft add table {of_nft} theirs"));
            run(&format!("nft delete table {of_nft} theirs"));
        }
    });
}
