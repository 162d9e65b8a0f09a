//! How searches end, and whose answers they take.

use super::*;
use std::time::Duration;

const KIND: DataType = DataType::ComputeResource;

fn table(asked: &[&str], limit: usize, now: Instant) -> Searches {
    let mut table = Searches::new(4, 2);
    let mut search = OpenSearch::new("u".into(), true, None, now + Duration::from_secs(10), limit);
    search.asked = AskedPeers::These(asked.iter().map(|did| (*did).to_owned()).collect());
    table.open("s".into(), search);
    table
}

fn published(table: &mut Searches, did: &str, id: Option<&str>, user: &str, now: Instant) -> bool {
    matches!(table.answer(did, id, user, KIND, now), Answered::Publish { .. })
}

#[test]
fn ends_when_everybody_asked_has_ended_or_failed() {
    let now = Instant::now();
    let mut table = table(&["a", "b", "c"], 100, now);
    assert!(published(&mut table, "a", Some("s"), "u", now));
    table.over("a", Some("s"), true, false, now);
    table.over("b", Some("s"), true, true, now);
    assert!(table.ended(now).is_empty());
    table.failed("s", "c");
    let ended = table.ended(now);
    let expected = SearchEnd {
        search_id: "s".into(),
        asked: 3,
        answered: 2,
        failed: 1,
        skipped: 0,
        results: 1,
        truncated: true,
        error: None,
    };
    let parts = |over: &SearchOver| {
        let [answered, failed, silent, skipped] = [&over.answered, &over.failed, &over.silent, &over.skipped];
        [answered, failed, silent, skipped].map(|dids| dids.join(" "))
    };
    assert_eq!(
        ended.iter().map(|over| over.report.clone()).collect::<Vec<_>>(),
        [expected]
    );
    assert_eq!(ended.iter().map(parts).collect::<Vec<_>>(), [["a b", "c", "", ""]]);
    assert!(table.ended(now).is_empty(), "a search ends once");
}

#[test]
fn everybody_may_answer_while_a_gossiped_search_is_open() {
    let now = Instant::now();
    let mut table = table(&["a"], 10, now);
    assert!(!table.asks_everybody());
    let gossiped = OpenSearch::new("u".into(), true, None, now + Duration::from_secs(10), 10);
    table.open("g".into(), gossiped);
    assert!(table.asks_everybody());
    table.close("g");
    assert!(!table.asks_everybody());
}

#[test]
fn an_answer_that_broke_off_or_was_not_done_in_time_is_cut() {
    let now = Instant::now();
    for (complete, cut) in [(Some(true), false), (Some(false), true), (None, true)] {
        let mut table = table(&["a"], 10, now);
        assert!(published(&mut table, "a", Some("s"), "u", now));
        if let Some(complete) = complete {
            table.over("a", Some("s"), complete, false, now);
        }
        let ended = table.ended(now + Duration::from_secs(10));
        let report = &ended[0].report;
        assert_eq!((report.answered, report.truncated), (1, cut), "{complete:?}");
    }
}

#[test]
fn ends_at_its_limit_at_its_time_and_by_its_askers_word() {
    let now = Instant::now();
    let mut table_a = table(&["a", "b"], 1, now);
    assert!(published(&mut table_a, "a", Some("s"), "u", now));
    let ended = table_a.ended(now);
    assert_eq!(
        ended.iter().map(|over| over.report.truncated).collect::<Vec<_>>(),
        [true],
        "there may be more"
    );
    let mut table_b = table(&["a"], 10, now);
    assert_eq!(table_b.next_deadline(), Some(now + Duration::from_secs(10)));
    assert_eq!(table_b.ended(now + Duration::from_secs(10)).len(), 1);
    let mut table_c = table(&["a"], 10, now);
    assert!(table_c.close("s").is_some() && table_c.close("s").is_none());
}

#[test]
fn answers_go_to_the_search_that_asked_their_sender() {
    let now = Instant::now();
    let mut table = table(&["a"], 10, now);
    assert!(!published(&mut table, "stranger", Some("s"), "u", now));
    assert!(!published(&mut table, "a", Some("other"), "u", now));
    assert!(!published(&mut table, "a", None, "another user", now));
    assert!(
        published(&mut table, "a", None, "u", now),
        "others repeat the user, not the id"
    );
    assert!(!published(
        &mut table,
        "a",
        Some("s"),
        "u",
        now + Duration::from_secs(11)
    ));
    assert_eq!(
        table.answer("a", Some("s"), "u", DataType::Peer, now),
        Answered::Drop("other_datatype")
    );
}

#[test]
fn one_peer_gives_only_so_many() {
    let now = Instant::now();
    let mut table = table(&["a", "b"], 10, now);
    let taken = (0..5)
        .filter(|_| published(&mut table, "a", Some("s"), "u", now))
        .count();
    assert_eq!(taken, 2);
    assert!(table.close("s").unwrap().report.truncated);
}

#[test]
fn an_id_is_used_once_at_a_time_and_the_table_is_bounded() {
    let now = Instant::now();
    let mut table = table(&["a"], 10, now);
    assert_eq!(table.may_open("s"), Err("search_id_in_use"));
    for n in 0..3 {
        table.open(n.to_string(), OpenSearch::new("u".into(), false, None, now, 1));
    }
    assert_eq!(table.may_open("x"), Err(TOO_MANY));
}

#[test]
fn gossip_that_nobody_heard_is_over_at_once_and_else_waits_for_its_time() {
    let now = Instant::now();
    let mut table = Searches::new(4, 2);
    table.open(
        "s".into(),
        OpenSearch::new("u".into(), false, None, now + Duration::from_secs(10), 5),
    );
    table.set_asked("s", AskedPeers::Everybody(2), Vec::new());
    table.over("a", Some("s"), true, false, now);
    table.over("b", Some("s"), true, false, now);
    assert!(table.ended(now).is_empty());
    table.set_asked("s", AskedPeers::Everybody(0), Vec::new());
    assert_eq!(table.ended(now).len(), 1);
}

#[test]
fn a_peer_that_writes_each_answer_on_a_stream_of_its_own_is_over_when_it_is_quiet() {
    let now = Instant::now();
    let mut table = table(&["a"], 10, now);
    let later = |ms| now + Duration::from_millis(ms);
    assert!(published(&mut table, "a", None, "u", now));
    table.over("a", None, true, false, now);
    assert!(table.ended(later(900)).is_empty(), "another stream may come");
    assert_eq!(table.next_deadline(), Some(later(1000)));
    assert!(published(&mut table, "a", None, "u", later(900)));
    assert!(table.ended(later(1100)).is_empty(), "it is open");
    table.over("a", None, true, false, later(1100));
    assert!(table.ended(later(2000)).is_empty());
    let ended = table.ended(later(2100));
    let report = &ended[0].report;
    assert_eq!((report.answered, report.results, report.truncated), (1, 2, false));
}

#[test]
fn an_end_without_an_id_is_of_the_search_that_was_answered_last() {
    let now = Instant::now();
    let mut table = table(&["a"], 10, now);
    let mut other = OpenSearch::new("v".into(), true, None, now + Duration::from_secs(10), 10);
    other.asked = AskedPeers::These(["a".to_owned()].into());
    table.open("t".into(), other);
    assert!(published(&mut table, "a", None, "v", now));
    assert!(published(&mut table, "a", None, "u", now));
    table.over("a", None, true, false, now);
    let over = |table: &mut Searches, at| table.ended(at).into_iter().map(|over| over.report.search_id);
    let second = now + Duration::from_secs(1);
    assert_eq!(over(&mut table, second).collect::<Vec<_>>(), ["s"]);
    table.over("a", None, false, false, second);
    assert!(table.ended(second).is_empty(), "its stream broke, and another may come");
    let ended = table.ended(second + Duration::from_secs(1));
    let ended: Vec<_> = ended
        .iter()
        .map(|over| (&*over.report.search_id, over.report.truncated))
        .collect();
    assert_eq!(ended, [("t", true)]);
}

#[test]
fn what_could_not_be_given_on_does_not_count() {
    let now = Instant::now();
    let mut table = table(&["a"], 1, now);
    assert!(published(&mut table, "a", Some("s"), "u", now));
    table.cut("s");
    assert!(table.ended(now).is_empty(), "there is room for another one");
    let report = table.close("s").unwrap().report;
    assert_eq!((report.results, report.truncated), (0, true));
}

#[test]
fn a_peer_that_has_only_what_was_not_asked_for_has_answered() {
    let now = Instant::now();
    let mut table = table(&["a"], 10, now);
    let other = table.answer("a", None, "u", DataType::Peer, now);
    assert_eq!(other, Answered::Drop(OTHER_KIND));
    table.over("a", None, true, false, now);
    let ended = table.ended(now + Duration::from_secs(1));
    let report = &ended[0].report;
    assert_eq!((report.answered, report.results, report.truncated), (1, 0, false));
}
