//! Resources as organisations describe them, made from a seed: the same number gives the same document.
//!
//! Pure. Words follow a steep curve, as in texts: a few are in every tenth document, most in a handful.

use serde_json::json;

/// In about every tenth document.
pub const BROAD: &str = "cluster";
/// Documents that share one serial word.
pub const SHARED: u64 = 20;

const KINDS: [&str; 5] = ["dataset", "pipeline", "bucket", "node", "workflow"];
const PLACES: [&str; 12] = [
    "Lyon", "Málaga", "Kraków", "Århus", "Gent", "Porto", "Tartu", "Brno", "Graz", "Turku", "Bari", "Nîmes",
];
const COMMON: [&str; 24] = [
    "storage",
    "compute",
    "shared",
    "backup",
    "fast",
    "archive",
    "project",
    "research",
    "imaging",
    "climate",
    "sequence",
    "training",
    "inference",
    "batch",
    "stream",
    "sensor",
    "genome",
    "weather",
    "traffic",
    "energy",
    "hospital",
    "university",
    "public",
    "nightly",
];
/// Rarer words: syllables put together.
const SYLLABLES: [&str; 16] = [
    "ka", "to", "ri", "mel", "an", "do", "vis", "per", "lo", "qua", "ster", "ni", "bru", "sol", "fen", "hal",
];

/// A small generator of numbers that repeats itself only after 2^64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words.get(self.below(words.len())).copied().unwrap_or_default()
    }

    fn word(&mut self) -> String {
        match self.below(3) {
            0 => self.of(&COMMON).to_owned(),
            _ => {
                let syllables = 2 + self.below(2);
                (0..syllables).map(|_| self.of(&SYLLABLES)).collect()
            }
        }
    }

    fn words(&mut self, count: usize) -> String {
        let words: Vec<String> = (0..count).map(|_| self.word()).collect();
        words.join(" ")
    }
}

/// The word that only this document and some others have.
pub fn serial(n: u64) -> String {
    format!("sn{:07}", n / SHARED)
}

/// The kind of the `n`th document, by its number on the wire: 1 to 5.
pub fn kind(n: u64) -> u8 {
    1 + (n % 5) as u8
}

/// The `n`th resource of `creator`: its id, and the document, about 1 KB of JSON.
pub fn resource(creator: &str, n: u64) -> (String, String) {
    let mut dice = Dice(n);
    let id = format!("{:016x}-{:016x}", dice.next(), dice.next());
    let what = dice.of(&KINDS);
    let mut name = format!("{} {what} {}", dice.word(), dice.of(&PLACES));
    if dice.below(10) == 0 {
        name = format!("{name} {BROAD}");
    }
    let public = dice.below(10) > 0;
    let document = json!({
        "id": id,
        "name": name,
        "is_draft": false,
        "creator_id": creator,
        "user_creator_id": format!("user-{}", dice.below(500)),
        "creation_date": "2026-03-14T09:26:53.589Z",
        "update_date": "2026-10-02T07:18:28.182Z",
        "updater_id": format!("user-{}", dice.below(500)),
        "access_mode": u8::from(public),
        "type": what,
        "logo": format!("https://files.example.org/logos/{}.svg", dice.below(300)),
        "short_description": dice.words(8),
        "description": format!("{} {}", dice.words(40), serial(n)),
        "owners": [{"name": dice.of(&PLACES), "logo": ""}],
        "license": "CC-BY-4.0",
        "instances": [{
            "id": format!("{:016x}", dice.next()),
            "name": format!("{what} at {}", dice.of(&PLACES)),
            "location": {"latitude": dice.below(90), "longitude": dice.below(180)},
            "partnerships": [{"namespace": "default", "peer_groups": {"nobody-in-particular": ["*"]}}],
        }],
    });
    (id, document.to_string())
}
