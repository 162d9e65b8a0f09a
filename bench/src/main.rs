mod measure;
use measure::Way;
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let v: Vec<String> = std::env::args().collect();
    let opt = || async_nats::ConnectOptions::new().subscription_capacity(1_000_000);
    let way = Way { a: opt().connect(&v[1]).await?, b: opt().connect(&v[2]).await?, from: "propalgation_event".into(), to: v[3].clone(), did: v[4].clone() };
    let l = way.latency(1000).await?;
    println!("latency p50 {:?} p99 {:?}", l.quantile(0.5), l.quantile(0.99));
    for n in 0..3 { let t = way.throughput(50_000, &format!("r{n}")).await?; println!("{} of {} in {:?}: {:.0}/s", t.arrived, t.sent, t.took, t.per_second()); }
    Ok(())
}
