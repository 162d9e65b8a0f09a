//! `search` on the command line: results as they come, then who had which part.

use crate::alice_and_bob;
use oc_testkit::{DataType, Federation, Peer, Relation, partners, public, resource, until};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

async fn has_gpu(peer: &Peer, id: &str) {
    let gpu = public(resource(peer.did(), id, "GPU"));
    peer.create_resource(DataType::Compute, &gpu).await;
    peer.settled().await;
}

fn names(end: &Value, part: &str) -> Vec<String> {
    let peers = end[part].as_array().unwrap();
    peers
        .iter()
        .map(|peer| peer["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn results_come_with_their_owner_and_the_end_says_who_had_which_part() {
    let net = Federation::new();
    let builder = net.peer("alice").partner_of("bob").knows("nobody", Relation::None);
    let alice = builder.knows("dave", Relation::Blacklist).start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    has_gpu(&bob, "gpu-1").await;
    has_gpu(&bob, "gpu-2").await;
    let typed = alice.types(&["search", "gpu", "--scope", "known", "--json"]).await;
    let lines: Vec<Value> = typed
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [first, second, end] = lines.as_slice() else {
        panic!("two results and the end: {typed:?}");
    };
    let mut found: Vec<&str> = [first, second]
        .iter()
        .filter_map(|line| line["result"]["document"]["id"].as_str())
        .collect();
    found.sort_unstable();
    assert_eq!(found, ["gpu-1", "gpu-2"]);
    assert_eq!(
        first["result"]["peer"],
        json!({"did": bob.did(), "name": "bob"}),
        "{typed:?}"
    );
    let end = &end["end"];
    assert_eq!((&end["asked"], &end["results"]), (&json!(2), &json!(2)), "{end}");
    let parts = ["answered", "failed", "silent", "skipped"].map(|part| names(end, part).join(" "));
    assert_eq!(parts, ["bob", "nobody", "", "dave"], "{end}");
    assert!(alice.heard("search_event").is_empty(), "the apps asked nothing");
    let typed = alice
        .types(&["search", "gpu", "--scope", "partner", "--limit", "1"])
        .await;
    assert!(typed.out.contains("(compute, gpu-"), "{typed:?}");
    assert!(
        typed
            .out
            .contains("results: 1; there may be more; peers asked: 1\nanswered: bob\n"),
        "{typed:?}"
    );
    for (wrong, says) in [
        (["--datatype", "peer"], "`oc-discovery peer explain WHO`"),
        (["--limit", "0"], "from 1 to 1000 results"),
        (["--limit", "1001"], "from 1 to 1000 results"),
        (["--timeout", "9999"], "from 0.001 to 10 s"),
        (["--timeout", "0"], "from 0.001 to 10 s"),
    ] {
        let typed = alice.types(&["search", wrong[0], wrong[1]]).await;
        assert_eq!((typed.status, typed.out.as_str()), (64, ""), "{wrong:?}: {typed:?}");
        assert!(typed.err.contains(says), "{wrong:?}: {typed:?}");
    }
}

#[tokio::test]
async fn whoever_goes_away_ends_the_search() {
    let net = Federation::new();
    let builder = net.peer("alice").partner_of("bob").set("limits.open_searches", "1");
    let alice = builder.set("search.timeout", "600s").start().await;
    let bob = net.peer("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    has_gpu(&bob, "gpu-1").await;
    // A gossiped search ends by time alone: this one would go on for longer than the test waits.
    let mut asking = UnixStream::connect(alice.dir().join("control.sock")).unwrap();
    asking
        .write_all(b"{\"verb\":\"search\",\"text\":\"gpu\",\"timeout_ms\":600000}\n")
        .unwrap();
    let mut first = String::new();
    BufReader::new(&asking).read_line(&mut first).unwrap();
    assert!(first.contains("gpu-1"), "{first}");
    let typed = alice.types(&["search", "gpu"]).await;
    assert!(typed.err.contains("too many searches are open"), "{typed:?}");
    drop(asking);
    until("the place to be free again".to_owned(), || async {
        let typed = alice.types(&["search", "gpu", "--scope", "partner"]).await;
        (typed.status == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_keeps_nobody_waiting() {
    let net = Federation::new();
    let (alice, bob) = alice_and_bob(&net).await;
    has_gpu(&bob, "gpu-1").await;
    let mut asking = UnixStream::connect(alice.dir().join("control.sock")).unwrap();
    // Reads nothing, ever.
    asking.write_all(b"{\"verb\":\"search\",\"text\":\"gpu\"}\n").unwrap();
    let (found, _) = alice
        .search(DataType::Compute, json!({"type": "partner", "search": "gpu"}))
        .await;
    assert_eq!(found.len(), 1);
}

#[tokio::test]
async fn a_thousand_results_come_whole() {
    let net = Federation::new();
    let many = |name| {
        let builder = net.peer(name).set("search.max_results", 2_000);
        builder.set("limits.answers_per_peer", 2_000)
    };
    let alice = many("alice").partner_of("bob").start().await;
    let bob = many("bob").partner_of("alice").start().await;
    partners(&[&alice, &bob]).await;
    for n in 0..1_500 {
        let gpu = public(resource(bob.did(), &format!("gpu-{n}"), "GPU"));
        bob.create_resource(DataType::Compute, &gpu).await;
    }
    bob.settled().await;
    let typed = alice
        .types(&["search", "gpu", "--scope", "partner", "--limit", "2000", "--json"])
        .await;
    let end = typed.out.lines().last().unwrap();
    let end: Value = serde_json::from_str(end).unwrap();
    assert_eq!(
        (&end["end"]["results"], &end["end"]["truncated"]),
        (&json!(1_500), &json!(false)),
        "{end}"
    );
    let mut found: Vec<&str> = typed.out.lines().filter(|line| line.contains("gpu-")).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 1_500);
}
