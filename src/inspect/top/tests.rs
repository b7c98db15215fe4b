//! Lines, keys and frames, over a made-up node whose numbers can be reckoned by hand.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use ipvs_sys::{DestinationKey, ServiceKey, Stats};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};

use super::reading::{Backend, whole_is_due};
use super::rows::{rows, servers_of, servers_of_all};
use super::state::{Place, RowKey};
use super::*;
use crate::ask::{EndpointState, NamedRealServer, NamedServer, Table};

/// A node with these: `shop/web:http` at two addresses with three backends, one of which drains,
/// `shop/api` with two of which one gets everything, and one that no agent knows.
struct Node {
    reading: Reading,
    servers: Meter<ServiceKey>,
    backends: Meter<(ServiceKey, DestinationKey)>,
    names: Names,
}

fn tcp(text: &str) -> ServiceKey {
    ServiceKey::tcp(text.parse().unwrap())
}

fn to(text: &str) -> DestinationKey {
    text.parse::<SocketAddr>().unwrap().into()
}

fn stats(conns: u64) -> Stats {
    Stats {
        conns,
        in_packets: conns * 5,
        out_packets: conns * 4,
        in_bytes: conns * 500,
        out_bytes: conns * 2_000,
        ..Stats::default()
    }
}

/// Virtual server, its connections after four seconds, and of each backend: weight, active, connections.
type Given = (&'static str, u64, &'static [(&'static str, u32, u32, u64)]);

const GIVEN: [Given; 4] = [
    (
        "10.96.0.1:80",
        120,
        &[
            ("10.244.1.2:8080", 1, 7, 60),
            ("10.244.2.2:8080", 1, 8, 60),
            ("10.244.3.2:8080", 0, 2, 0),
        ],
    ),
    (
        "192.0.2.7:80",
        40,
        &[
            ("10.244.1.2:8080", 1, 1, 20),
            ("10.244.2.2:8080", 1, 1, 20),
            ("10.244.3.2:8080", 0, 0, 0),
        ],
    ),
    (
        "10.96.0.2:443",
        4000,
        &[
            ("10.244.1.3:8443", 2, 30, 4000),
            ("10.244.2.3:8443", 2, 0, 0),
        ],
    ),
    ("10.96.0.9:9", 0, &[]),
];

impl Node {
    fn new() -> Self {
        let mut servers = Meter::default();
        let mut backends = Meter::default();
        let mut reading = Reading::default();
        for at in [0, 4] {
            reading = Reading::default();
            for (server, conns, to_backends) in GIVEN {
                let part = |all: u64| stats(all * at / 4);
                reading.services.insert(tcp(server), part(conns));
                let list = to_backends
                    .iter()
                    .map(|(key, weight, active, conns)| Backend {
                        key: to(key),
                        weight: *weight,
                        active: *active,
                        inactive: *active * 2,
                        stats: Some(part(*conns)),
                    });
                reading.backends.insert(tcp(server), list.collect());
            }
            let moment = Duration::from_secs(at);
            servers.update(moment, reading.services.iter().map(|(key, s)| (*key, s)));
            let measured = reading.backends.iter().flat_map(|(server, list)| {
                let one = |b: &'_ Backend| (*server, b.key);
                list.iter()
                    .filter_map(move |b| Some((one(b), b.stats.as_ref()?)))
            });
            backends.update(moment, measured);
        }
        Self {
            reading,
            servers,
            backends,
            names: Names::from(table()),
        }
    }

    fn data(&self) -> Data<'_> {
        Data {
            reading: &self.reading,
            servers: &self.servers,
            backends: &self.backends,
            names: &self.names,
        }
    }

    fn keys(&self, state: &State) -> Vec<RowKey> {
        rows(&self.data(), state)
            .into_iter()
            .map(|row| row.key)
            .collect()
    }

    fn names(&self, state: &State) -> Vec<String> {
        rows(&self.data(), state)
            .into_iter()
            .map(|row| row.name)
            .collect()
    }

    /// Presses keys as a terminal of 24 lines would.
    fn press(&self, state: &mut State, keys: &[Input]) {
        for key in keys {
            let rows = self.keys(state);
            state.press(*key, &rows, 17);
        }
    }

    fn frame(&self, state: &State, width: u16, height: u16) -> Terminal<TestBackend> {
        self.frame_of(state, &Connections::default(), width, height, true)
    }

    fn frame_of(
        &self,
        state: &State,
        connections: &Connections,
        width: u16,
        height: u16,
        colour: bool,
    ) -> Terminal<TestBackend> {
        let rows = rows(&self.data(), state);
        let content = match state.screen().place {
            Place::Connections(..) => Content::Connections(connections),
            _ => Content::Rows(&rows),
        };
        let view = View {
            state,
            content,
            node: "n1",
            kernel: "6.1.0",
            cost: Duration::from_micros(3210),
            notes: &[],
            colour,
            live: true,
        };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal
            .draw(|frame| view.render(frame.area(), frame.buffer_mut()))
            .unwrap();
        terminal
    }
}

fn table() -> Table {
    let named = |server: &str, service: &str, port: &str, endpoints: &[(&str, EndpointState)]| {
        let key: crate::model::VipPort = format!("{server}/TCP").parse().unwrap();
        let real_servers = endpoints.iter().map(|(endpoint, state)| {
            let at: SocketAddr = endpoint.parse().unwrap();
            NamedRealServer {
                address: at.ip(),
                port: at.port(),
                state: *state,
                used: *state == EndpointState::Ready,
                node: None,
                zone: None,
                drain_seconds_left: None,
            }
        });
        NamedServer {
            key: key.into(),
            namespace: "shop".to_owned(),
            service: service.to_owned(),
            port_name: port.to_owned(),
            kind: "ClusterIP".to_owned(),
            policy: "Cluster".to_owned(),
            scheduler: "rr".to_owned(),
            near: false,
            real_servers: real_servers.collect(),
        }
    };
    let web = [
        ("10.244.1.2:8080", EndpointState::Ready),
        ("10.244.3.2:8080", EndpointState::Terminating),
    ];
    Table {
        agent: "0.1.0".to_owned(),
        node: "n1".to_owned(),
        virtual_servers: vec![
            named("10.96.0.1:80", "web", "http", &web),
            named("192.0.2.7:80", "web", "http", &web),
            named("10.96.0.2:443", "api", "", &[]),
        ],
    }
}

fn state() -> State {
    State::new(Duration::from_secs(1), Column::Conns, None)
}

fn lines(terminal: &Terminal<TestBackend>) -> Vec<String> {
    view::text(terminal.backend().buffer())
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn services_are_summed_up_over_their_addresses() {
    let node = Node::new();
    let lines = lines(&node.frame(&state(), 80, 24));
    assert_eq!(lines.len(), 24);
    // In 4 s: 4,000 connections; 120 + 40; none. 5 packets in, 4 out, 500 and 2,000 bytes of each.
    let wanted = [
        "ipvs-agent top  n1  Linux 6.1.0                         every 1s  read in 3.2 ms",
        "Services, by conns",
        "                                 BACK-  CONN PKT/S PKT/S   B/S   B/S  ACT-   IN-",
        "  SERVICE                         ENDS    /S    IN   OUT    IN   OUT   IVE   ACT",
        "> shop/api                          2!  1.0k  5.0k  4.0k  500k  2.0M    30    60",
        "  shop/web:http                    2/3    40   200   160 20.0k 80.0k    19    38",
        "  10.96.0.9:9/TCP                    0     0     0     0     0     0     0     0",
    ];
    assert_eq!(lines[..7], wanted);
    assert_eq!(
        lines[22],
        "  TOTAL                            4/5  1.0k  5.2k  4.2k  520k  2.1M    49    98"
    );
    assert!(lines[23].starts_with("q quit  ? help"), "{}", lines[23]);
    assert!(lines.iter().all(|line| line.len() <= 80));
}

#[test]
fn a_wide_terminal_has_words_and_weights() {
    let node = Node::new();
    let lines = lines(&node.frame(&state(), 120, 40));
    assert!(
        lines[3].contains("BACKENDS   WEIGHT   CONN/S"),
        "{}",
        lines[3]
    );
    let api: Vec<_> = lines[4].split_whitespace().collect();
    assert_eq!(
        api,
        [
            ">", "shop/api", "2!", "4", "1.0k", "5.0k", "4.0k", "500k", "2.0M", "30", "60"
        ]
    );
}

#[test]
fn each_column_orders_and_reverses() {
    let node = Node::new();
    let mut state = state();
    let order = |state: &State| {
        let names = node.names(state);
        names
            .iter()
            .map(|name| name.chars().nth(5).unwrap())
            .collect::<String>()
    };
    // shop/api, shop/web, 10.96.0.9: their sixth letters.
    assert_eq!(order(&state), "aw.");
    node.press(&mut state, &[Input::Char('r')]);
    assert_eq!(order(&state), ".wa");
    for (key, wanted) in [('1', ".aw"), ('2', "wa."), ('8', "aw."), ('0', "aw.")] {
        node.press(&mut state, &[Input::Char(key)]);
        assert_eq!(order(&state), wanted, "{key}");
        assert!(!state.reverse);
    }
    assert_eq!(state.sort, Column::Weight);
    node.press(&mut state, &[Input::Char('s')]);
    assert_eq!(state.sort, Column::Name);
    node.press(&mut state, &[Input::Char('S'), Input::Char('S')]);
    assert_eq!(state.sort, Column::Inactive);
}

#[test]
fn lines_are_filtered_by_name_address_and_namespace() {
    let node = Node::new();
    let with = |text: &str| node.names(&state().filtered(text.to_owned()));
    assert_eq!(with("WEB"), ["shop/web:http"]);
    assert_eq!(with("192.0.2"), ["shop/web:http"]);
    assert_eq!(with("nobody"), Vec::<String>::new());
    let namespace = |name: &str| State::new(Duration::ZERO, Column::Name, Some(name.to_owned()));
    assert_eq!(
        node.names(&namespace("shop")),
        ["shop/api", "shop/web:http"]
    );
    assert_eq!(node.names(&namespace("sho")), Vec::<String>::new());

    // By keys: what is typed is no command, enter keeps it, escape drops it.
    let mut state = state();
    let typed = "/qap".chars().map(Input::Char).chain([Input::Backspace]);
    node.press(&mut state, &typed.collect::<Vec<_>>());
    assert_eq!(state.screen().filter, "qa");
    node.press(
        &mut state,
        &[
            Input::Backspace,
            Input::Backspace,
            Input::Char('a'),
            Input::Char('p'),
        ],
    );
    assert!(lines(&node.frame(&state, 80, 24))[23].starts_with("filter: ap_"));
    node.press(&mut state, &[Input::Enter]);
    assert_eq!(node.names(&state), ["shop/api"]);
    node.press(&mut state, &[Input::Escape]);
    assert_eq!(node.names(&state).len(), 3);
}

#[test]
fn virtual_servers_are_lines_of_their_own() {
    let node = Node::new();
    let mut state = state();
    node.press(&mut state, &[Input::Char('g')]);
    assert_eq!(
        node.names(&state),
        [
            "10.96.0.2:443/TCP",
            "10.96.0.1:80/TCP",
            "192.0.2.7:80/TCP",
            "10.96.0.9:9/TCP"
        ]
    );
    // 40 connections in 4 s.
    let line = lines(&node.frame(&state, 80, 24)).remove(6);
    assert!(line.contains("2/3    10    50    40"), "{line}");
}

#[test]
fn a_services_backends() {
    let node = Node::new();
    let mut state = state();
    node.press(&mut state, &[Input::Down, Input::Enter]);
    let terminal = node.frame(&state, 80, 24);
    let shown = lines(&terminal);
    assert_eq!(shown[1], "shop/web:http > backends, by conns");
    assert_eq!(
        shown[3],
        "  BACKEND              STATE      WGHT    /S    IN   OUT    IN   OUT   IVE   ACT"
    );
    let row = |n: usize| shown[n].split_whitespace().collect::<Vec<_>>();
    // 60 + 20 connections in 4 s; 7 + 1 active.
    assert_eq!(
        row(4),
        [
            ">",
            "10.244.1.2:8080",
            "ready",
            "1",
            "20",
            "100",
            "80",
            "10.0k",
            "40.0k",
            "8",
            "16"
        ]
    );
    assert_eq!(row(5)[..2], ["10.244.2.2:8080", "-"]);
    assert_eq!(row(6)[..5], ["10.244.3.2:8080", "draining", "0", "0", "0"]);
    let colour = |x: u16, y: u16| terminal.backend().buffer().cell((x, y)).unwrap().fg;
    assert_eq!(colour(3, 6), Color::Yellow);
    assert_eq!(colour(3, 5), Color::Reset);
    // Back to where one was.
    node.press(&mut state, &[Input::Escape]);
    assert_eq!(state.selected(&node.keys(&state)), 1);
}

#[test]
fn an_uneven_backend_is_told_apart() {
    let node = Node::new();
    let mut state = state();
    node.press(&mut state, &[Input::Enter]);
    let shown = lines(&node.frame(&state, 120, 24));
    let row = |n: usize| shown[n].split_whitespace().collect::<Vec<_>>();
    // Both have half of the weight.
    assert_eq!(row(4)[1..5], ["10.244.1.3:8443", "uneven", "2", "100%"]);
    assert_eq!(row(5)[..4], ["10.244.2.3:8443", "uneven", "2", "0%"]);
}

#[test]
fn few_connections_say_nothing_about_the_load() {
    let mut node = Node::new();
    let server = tcp("10.96.0.2:443");
    let (one, none) = (stats(8), stats(0));
    let keys = [
        (server, to("10.244.1.3:8443")),
        (server, to("10.244.2.3:8443")),
    ];
    node.backends = Meter::default();
    node.backends
        .update(Duration::ZERO, keys.map(|key| (key, &none)));
    let later = [(keys[0], &one), (keys[1], &none)];
    node.backends.update(Duration::from_secs(2), later);
    let uneven = rows(&node.data(), &state())
        .into_iter()
        .filter(|row| row.uneven);
    assert_eq!(uneven.count(), 0);
}

/// Both families of a Service are in one line; a family that nobody uses is not uneven for that.
#[test]
fn each_virtual_server_has_its_own_due() {
    let mut node = Node::new();
    let (used, unused) = (tcp("10.96.0.1:80"), tcp("192.0.2.7:80"));
    let (some, none) = (stats(30), stats(0));
    let keys = [
        (used, to("10.244.1.2:8080"), &some),
        (used, to("10.244.2.2:8080"), &some),
        (unused, to("10.244.1.9:8080"), &none),
        (unused, to("10.244.2.9:8080"), &none),
    ];
    let backends = |server: ServiceKey| -> Vec<Backend> {
        let own = keys.iter().filter(|key| key.0 == server);
        let backend = own.map(|(_, key, stats)| Backend {
            key: *key,
            weight: 1,
            active: 0,
            inactive: 0,
            stats: Some(**stats),
        });
        backend.collect()
    };
    for server in [used, unused] {
        node.reading.backends.insert(server, backends(server));
    }
    node.backends = Meter::default();
    let begin = keys.map(|(server, key, _)| ((server, key), &none));
    node.backends.update(Duration::ZERO, begin);
    let end = keys.map(|(server, key, stats)| ((server, key), stats));
    node.backends.update(Duration::from_secs(2), end);
    let rows = rows(&node.data(), &state());
    let web = rows.iter().find(|row| row.name == "shop/web:http").unwrap();
    assert_eq!((web.backends, web.uneven), (Some((4, 4)), false));
}

#[test]
fn without_colours_words_are_left() {
    let node = Node::new();
    let mut state = state();
    node.press(&mut state, &[Input::Down, Input::Enter]);
    let terminal = node.frame_of(&state, &Connections::default(), 80, 24, false);
    let cells = &terminal.backend().buffer().content;
    assert!(
        cells
            .iter()
            .all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
    );
    // The selected line is still to be seen.
    assert!(
        cells
            .iter()
            .any(|cell| cell.modifier.contains(Modifier::REVERSED))
    );
    assert!(lines(&terminal)[6].contains("draining"));
}

#[test]
fn a_backends_connections() {
    let node = Node::new();
    let mut state = state();
    node.press(&mut state, &[Input::Enter, Input::Enter]);
    let connections = Connections {
        shown: vec![connections::Connection {
            client: "192.0.2.9:41000".parse().unwrap(),
            server: "10.96.0.2:443".parse().unwrap(),
            state: "ESTABLISHED".to_owned(),
            expires: 893,
        }],
        all: 3000,
        tied: 2,
    };
    let shown = lines(&node.frame_of(&state, &connections, 100, 10, true));
    assert_eq!(
        shown[1],
        "shop/api > 10.244.1.3:8443 > connections: 3000, the first 1 are shown, clients tied by persistence: 2"
            [..100].trim_end()
    );
    let row: Vec<_> = shown[4].split_whitespace().collect();
    assert_eq!(
        row,
        [
            ">",
            "192.0.2.9:41000",
            "10.96.0.2:443",
            "ESTABLISHED",
            "893s"
        ]
    );
}

#[test]
fn the_selection_stays_with_its_line() {
    let node = Node::new();
    let mut state = state();
    node.press(&mut state, &[Input::Down]);
    node.press(&mut state, &[Input::Char('r')]);
    assert_eq!(state.selected(&node.keys(&state)), 1);
    node.press(&mut state, &[Input::Char('1')]);
    assert_eq!(state.selected(&node.keys(&state)), 2);
    node.press(
        &mut state,
        &[Input::End, Input::Down, Input::Home, Input::Up],
    );
    assert_eq!(state.selected(&node.keys(&state)), 0);
}

#[test]
fn the_screen_follows_the_selection() {
    let rows: Vec<_> = (0..100).map(RowKey::Line).collect();
    let mut state = state();
    let mut at = |key: Input| {
        state.press(key, &rows, 10);
        state.scroll(&rows, 10);
        (state.selected(&rows), state.screen().first)
    };
    assert_eq!(at(Input::PageDown), (10, 1));
    assert_eq!(at(Input::Up), (9, 1));
    assert_eq!(at(Input::End), (99, 90));
    assert_eq!(at(Input::PageUp), (89, 89));
    assert_eq!(at(Input::Home), (0, 0));
}

#[test]
fn keys_that_change_how_it_is_read() {
    let mut state = state();
    let mut press = |c| (state.press(Input::Char(c), &[], 10), state.clone());
    assert_eq!(press('+').1.interval, Duration::from_secs(2));
    assert_eq!(press('-').1.interval, Duration::from_secs(1));
    for _ in 0..5 {
        press('-');
    }
    assert_eq!(press('-').1.interval, Duration::from_millis(250));
    let (effect, paused) = press('p');
    assert!(effect == Effect::Draw && paused.paused);
    let (effect, goes_on) = press('p');
    assert!(effect == Effect::Read && !goes_on.paused);
    // Help takes any key, and `q` there only closes it.
    assert!(press('?').1.help);
    let (effect, closed) = press('q');
    assert!(effect == Effect::Draw && !closed.help);
    assert_eq!(press('q').0, Effect::Quit);
}

#[test]
fn help_fits_into_the_smallest_terminal() {
    let node = Node::new();
    let mut state = state();
    node.press(&mut state, &[Input::Char('?')]);
    let shown = lines(&node.frame(&state, 80, 24));
    assert!(
        shown
            .iter()
            .any(|line| line.contains("refreshes its counters every 2 s"))
    );
    assert_eq!(shown[23], "any key: back");
    // Nor does a tiny one make it fail.
    for (width, height) in [(1, 1), (10, 3), (40, 6)] {
        node.frame(&state, width, height);
        node.frame(
            &State::new(Duration::ZERO, Column::Name, None),
            width,
            height,
        );
    }
}

#[test]
fn what_is_looked_at_is_known_by_its_virtual_servers() {
    let node = Node::new();
    let keys = node.keys(&state());
    let [_, RowKey::Group(web), RowKey::Group(foreign)] = &keys[..] else {
        panic!("{keys:?}")
    };
    let of_web = BTreeSet::from([tcp("10.96.0.1:80"), tcp("192.0.2.7:80")]);
    assert_eq!(servers_of(&node.data(), web), of_web);
    let groups = BTreeSet::from([web, foreign]);
    let both: BTreeSet<_> = servers_of_all(&node.data(), &groups).collect();
    assert_eq!(both.len(), 3);
}

#[test]
fn the_whole_table_takes_a_twentieth_of_the_time() {
    let cost = Duration::from_millis(100);
    assert!(!whole_is_due(false, Duration::from_millis(1999), cost));
    assert!(whole_is_due(false, Duration::from_secs(2), cost));
    assert!(whole_is_due(true, Duration::ZERO, cost));
}

#[test]
fn what_was_not_asked_for_comes_from_the_whole_table() {
    let text = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600001:0050 rr  
  -> 0AF40102:1F90      Masq    3      1          2         
FWM  00000007 rr  
  -> 0AF40102:1F90      Masq    1      0          0         
  -> [fd00:0002:0000:0000:0000:0000:0000:0002]:1F90      Masq    1      1          0         
";
    let whole = Whole::from(ipvs_sys::procfs::services(text).unwrap().as_slice());
    let (asked, other) = (tcp("10.96.0.1:80"), tcp("10.96.0.2:80"));
    let mark = ServiceKey::Mark {
        family: ipvs_sys::Family::Inet6,
        mark: 7.try_into().unwrap(),
    };
    let mut reading = Reading::default();
    for key in [asked, other, mark] {
        reading.services.insert(key, Stats::default());
    }
    whole.complete(&mut reading);
    let line = reading.backends[&asked][0];
    assert_eq!(
        (line.key, line.weight, line.active, line.inactive),
        (to("10.244.1.2:8080"), 3, 1, 2)
    );
    assert!(!reading.backends.contains_key(&other));
    assert_eq!(reading.backends[&mark].len(), 1);
    assert_eq!(reading.backends[&mark][0].key, to("[fd00:2::2]:8080"));
    // What was asked for stays as it is.
    reading.backends.insert(asked, Vec::new());
    whole.complete(&mut reading);
    assert!(reading.backends[&asked].is_empty());
}
