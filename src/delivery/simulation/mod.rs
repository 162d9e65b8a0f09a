//! Two daemons between which everything may happen: the real rules, seeded, with a crash between any two steps.
//!
//! Owns the cases. Always checks: when all comes to rest B's apps know what A's store has, nothing was told older after
//! newer, and no message is lost; and that a rule switched off breaks that, so the check sees what it is for.
//!
//! `SOAK_SEEDS=10000 cargo test --lib delivery::simulation -- --nocapture` runs the long form and prints the table;
//! `SIM_CASE='all of that'` runs the cases so called alone, `SIM_SEED=17` one seed of them.

mod dice;
mod far;
mod near;
mod world;

use super::journal::Journal;
use super::memory::MemoryJournal;
use super::types::Token;
use proptest::prelude::*;
use world::{Outcome, World};

/// A journal that runs can be made with.
pub(crate) trait SimJournal: Journal + Sized {
    /// A new one. A journal that names itself ignores the lineage.
    fn make(lineage: Token) -> Self;
    /// What a backup of it would bring back.
    fn backup(&self) -> Self;
}

impl SimJournal for MemoryJournal {
    fn make(lineage: Token) -> Self {
        Self::new(lineage)
    }

    fn backup(&self) -> Self {
        self.clone()
    }
}

/// What goes wrong beside crashes and cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Purge,
    PurgeHot,
    RestoreA,
    LoseA,
    RestoreB,
    LoseB,
    AdmitLate,
    Readmit,
    /// The connection is cut in comparisons.
    CutDigest,
    /// B answers `stop` now and then.
    Stop,
    /// B asks for a comparison now and then.
    Full,
    /// B refuses some lines.
    Reject,
    /// B's store refuses some things for good.
    GiveUp,
    /// Some lines reset the stream.
    Poison,
    /// B is a partner of A now and then.
    Rights,
    /// A is a partner of B now and then.
    Admit,
    /// Much is said before a restored A is connected again.
    Busy,
    /// The apps store what they told a little later.
    Late,
    /// No crashes, no cuts.
    Steady,
}

/// A rule that can be switched off, from outside of the product's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Incarnation,
    Start,
    Intake,
    Store,
    Floor,
    NewestOnly,
    Young,
}

#[derive(Debug, Clone)]
struct Case {
    name: &'static str,
    faults: Vec<Fault>,
    off: Vec<Rule>,
    keys: usize,
    steps: u32,
    jetstream: bool,
}

fn case(name: &'static str, faults: &[Fault]) -> Case {
    Case {
        name,
        faults: faults.to_vec(),
        off: Vec::new(),
        keys: 40,
        steps: 900,
        jetstream: true,
    }
}

fn on_core(name: &'static str, faults: &[Fault], off: &[Rule]) -> Case {
    Case {
        jetstream: false,
        off: off.to_vec(),
        ..case(name, faults)
    }
}

fn with_keys(name: &'static str, faults: &[Fault], keys: usize) -> Case {
    Case {
        keys,
        ..case(name, faults)
    }
}

/// What must always come right.
fn cases() -> Vec<Case> {
    use Fault::*;
    vec![
        case("crashes + cuts, 40 keys", &[]),
        with_keys("crashes + cuts, 6 hot keys", &[], 6),
        case("  + tombstones purged", &[Purge]),
        case("  + A restored from a backup, JetStream", &[Purge, RestoreA]),
        on_core("  + A restored from a backup, core NATS", &[Purge, RestoreA], &[]),
        case("  + A's state lost, JetStream", &[Purge, LoseA]),
        on_core("  + A's state lost, core NATS", &[Purge, LoseA], &[]),
        case("  + B restored from a backup", &[Purge, RestoreB]),
        case("  + B's state and apps' data lost", &[Purge, LoseB]),
        case("  + B admits A late", &[Purge, AdmitLate]),
        case("  + revoked, purged, admitted again", &[Purge, Readmit]),
        case("  + both restored", &[Purge, RestoreA, RestoreB]),
        on_core("  + A restored, then busy, core NATS", &[RestoreA, Busy], &[]),
        case("tombstones purged aggressively", &[PurgeHot]),
    ]
}

/// What else may happen, and must come right too.
fn harder() -> Vec<Case> {
    use Fault::*;
    vec![
        case("  + no crashes, no cuts", &[PurgeHot, Steady]),
        case("  + cut in comparisons", &[PurgeHot, CutDigest, Full]),
        case("  + stop at random", &[Purge, Stop]),
        case("  + lines refused", &[Purge, Reject]),
        case("  + refused by B's store", &[Purge, GiveUp, Full]),
        case("  + lines that reset the stream", &[Purge, Poison, Full]),
        case("  + B partner of A now and then", &[Purge, Rights]),
        case("  + A partner of B now and then", &[Purge, Admit]),
        case("  + apps store late", &[Late, CutDigest, Full, RestoreB]),
        case(
            "  + all of that",
            &[PurgeHot, CutDigest, Full, Stop, Reject, GiveUp, Rights, Admit, RestoreB],
        ),
    ]
}

/// The same with lists of several ranges; slower, so fewer seeds.
fn large() -> Vec<Case> {
    use Fault::*;
    vec![
        with_keys("700 keys", &[Purge, CutDigest, Full], 700),
        with_keys("700 keys, A's state lost", &[Purge, LoseA], 700),
        with_keys("700 keys, B's state lost", &[PurgeHot, LoseB, CutDigest], 700),
        with_keys("700 keys, both restored", &[PurgeHot, RestoreA, RestoreB, Stop], 700),
    ]
}

/// What must go wrong in some run.
fn broken() -> Vec<Case> {
    use Fault::*;
    let without_intake = Case {
        off: vec![Rule::Intake],
        ..case("without intake first: A restored", &[Purge, RestoreA])
    };
    let without_floor = Case {
        off: vec![Rule::Floor],
        ..case("without a restart behind the floor", &[PurgeHot, Steady])
    };
    let without_newest = Case {
        off: vec![Rule::NewestOnly],
        ..with_keys("without 'of what is left the newest only', 6 hot keys", &[], 6)
    };
    vec![
        without_newest,
        Case {
            off: vec![Rule::Young],
            ..case(
                "without a rest for young rows: apps store late",
                &[Late, CutDigest, Full],
            )
        },
        on_core(
            "without incarnations: A restored, then busy, core NATS",
            &[RestoreA, Busy],
            &[Rule::Incarnation],
        ),
        on_core(
            "without incarnations + start-up reconcile: same",
            &[Purge, RestoreA],
            &[Rule::Incarnation, Rule::Start],
        ),
        without_intake,
        on_core(
            "without store check: A's state lost, core NATS",
            &[Purge, LoseA],
            &[Rule::Store],
        ),
        on_core(
            "without start-up reconcile: A restored, core NATS",
            &[Purge, RestoreA],
            &[Rule::Start],
        ),
        without_floor,
    ]
}

/// Seeds of a case: what `SOAK_SEEDS` says, or few enough for every test run.
fn seeds(few: u64) -> u64 {
    std::env::var("SOAK_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(few)
}

/// Says which run it was that ended by a broken rule.
struct Running<'a>(&'a Case, u64);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}, seed {}: a rule was broken", self.0.name, self.1);
        }
    }
}

/// Runs a case with each seed and adds up; a run that went wrong is printed with its seed.
fn run<J: SimJournal>(case: &Case, seeds: u64, tell: bool) -> Outcome {
    let mut sum = Outcome::default();
    let only = std::env::var("SIM_SEED").ok().map(|seed| seed.parse().unwrap());
    for seed in only.map_or(0..seeds, |seed: u64| seed..seed + 1) {
        let _running = Running(case, seed);
        let end = World::<J>::new(case, seed).run();
        if tell && (end.wrong_end, end.went_back, end.lost) != (0, 0, 0) {
            println!("{}, seed {seed}: {end:?}", case.name);
        }
        sum.wrong_end += end.wrong_end;
        sum.went_back += end.went_back;
        sum.twice += end.twice;
        sum.lost += end.lost;
        sum.messages_twice += end.messages_twice;
        sum.digests += end.digests;
    }
    println!(
        "{:56} {:9} {:9} {:8} {:9} {:10} {:7}",
        case.name, sum.wrong_end, sum.went_back, sum.twice, sum.lost, sum.messages_twice, sum.digests
    );
    sum
}

fn header(seeds: u64) {
    println!(
        "{:56} wrong_end went_back dup_runs msgs_lost msgs_twice digests   of {seeds} seeds",
        "case"
    );
}

/// Runs the cases over a journal; all must come right.
pub(crate) fn all_comes_right<J: SimJournal>(few: u64) {
    all_right::<J>(&cases(), few);
    all_right::<J>(&harder(), few);
}

fn all_right<J: SimJournal>(cases: &[Case], few: u64) {
    let seeds = seeds(few);
    header(seeds);
    let only = std::env::var("SIM_CASE").unwrap_or_default();
    for case in cases.iter().filter(|case| case.name.contains(&only)) {
        right::<J>(case, seeds);
    }
}

fn right<J: SimJournal>(case: &Case, seeds: u64) {
    let sum = run::<J>(case, seeds, true);
    assert_eq!(
        (sum.wrong_end, sum.went_back, sum.lost),
        (0, 0, 0),
        "{}: {sum:?}",
        case.name
    );
}

#[test]
fn everything_comes_right_whatever_happens() {
    all_comes_right::<MemoryJournal>(200);
}

#[test]
fn long_lists_come_right() {
    all_right::<MemoryJournal>(&large(), 20);
}

#[test]
fn a_rule_switched_off_breaks_it() {
    let seeds = seeds(200);
    header(seeds);
    for case in broken() {
        let sum = run::<MemoryJournal>(&case, seeds, false);
        assert!(
            sum.wrong_end + sum.went_back + sum.lost > 0,
            "nobody misses a rule: {}",
            case.name
        );
    }
}

fn any_case() -> impl Strategy<Value = Case> {
    use Fault::*;
    let all = vec![
        Purge, PurgeHot, RestoreB, LoseB, CutDigest, Stop, Full, Reject, GiveUp, Rights, Admit, AdmitLate, RestoreA,
        LoseA,
    ];
    let count = all.len();
    (prop::sample::subsequence(all, 0..=count), 1_usize..60, 50_u32..600).prop_map(|(faults, keys, steps)| Case {
        keys,
        steps,
        ..case("any", &faults)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_history_ends_with_what_the_store_has(case in any_case(), seed in any::<u64>()) {
        let end = World::<MemoryJournal>::new(&case, seed).run();
        prop_assert_eq!((end.wrong_end, end.went_back, end.lost), (0, 0, 0), "{:?} {:?}", case, end);
    }
}
