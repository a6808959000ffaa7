//! Good tokens with something changed: in header and claims, before they are signed, or in the bytes, after.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::token_support::{ISS, NOW, Signer, claims, encode};

/// One key for each.
pub const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];

/// A token, and what a judge has to know of it.
#[derive(Clone)]
pub struct Mutant {
    pub token: String,
    pub algorithm: Algorithm,
    pub kid: String,
    /// Whether header and payload are those that were signed.
    pub is_signed: bool,
    /// What was changed.
    pub how: String,
}

/// A member of an object as it is written, so that names come twice and numbers in every spelling.
type Member = (String, String);

/// An endless row of tokens, the same for the same seed but for keys and signatures.
pub struct Mutants {
    chance: StdRng,
}

impl Mutants {
    pub fn new(seed: u64) -> Self {
        Self { chance: StdRng::seed_from_u64(seed) }
    }

    /// A token as an issuer makes it.
    pub fn good(&mut self) -> Mutant {
        let signer = self.signer();
        self.signed(signer, &members(&signer.header()), &members(&claims()), String::from("nothing"))
    }

    pub fn next(&mut self) -> Mutant {
        let signer = self.signer();
        let (mut header, mut payload, mut how) = (members(&signer.header()), members(&claims()), String::new());
        for _ in 0..self.chance.random_range(0..4) {
            let (object, names, what): (_, &[&str], _) =
                if self.one_in(3) { (&mut header, &HEADER, "header") } else { (&mut payload, &CLAIMS, "claim") };
            let change = change(&mut self.chance, object, names, what);
            how.push_str(&change);
        }
        let mut mutant = self.signed(signer, &header, &payload, how);
        if self.one_in(4) {
            self.spoil(&mut mutant);
        }
        mutant
    }

    /// RSA signs slowly: it comes less often.
    fn signer(&mut self) -> &'static Signer {
        let at = if self.one_in(10) { self.chance.random_range(0..2) } else { self.chance.random_range(2..5) };
        Signer::published(ALGORITHMS[at])
    }

    fn one_in(&mut self, many: u32) -> bool {
        self.chance.random_ratio(1, many)
    }

    fn signed(&mut self, signer: &Signer, header: &[Member], payload: &[Member], how: String) -> Mutant {
        let (header, payload) = (self.written(header), self.written(payload));
        let token = signer.sign(&header, &payload);
        Mutant { token, algorithm: signer.algorithm, kid: signer.kid().to_owned(), is_signed: true, how }
    }

    /// An object, now and then with odd spaces.
    fn written(&mut self, members: &[Member]) -> String {
        let space = if self.one_in(8) {
            [" ", "\n", "\t\r\n", "\u{a0}", "\u{feff}"][self.chance.random_range(0..5)]
        } else {
            ""
        };
        let members: Vec<String> =
            members.iter().map(|(name, value)| format!("{space}{name}{space}:{space}{value}")).collect();
        let end = if self.one_in(40) { ["}", " x", ",", "\0"][self.chance.random_range(0..4)] } else { "" };
        format!("{{{}{space}}}{end}", members.join(","))
    }

    /// Changes the text of a token: whatever comes of it, it is not what was signed.
    fn spoil(&mut self, mutant: &mut Mutant) {
        let before = mutant.token.clone();
        let parts: Vec<String> = before.split('.').map(str::to_owned).collect();
        let part = self.chance.random_range(0..3);
        let mut parts_now = parts.clone();
        let decoded = URL_SAFE_NO_PAD.decode(&parts[part]).unwrap();
        let at = self.chance.random_range(0..before.len());
        match self.chance.random_range(0..9) {
            0 => parts_now[part] = URL_SAFE.encode(&decoded),
            1 => parts_now[part] = STANDARD.encode(&decoded),
            2 => parts_now[part].push(['=', 'A', '\n', ' ', '.'][self.chance.random_range(0..5)]),
            3 => {
                // The last letter has bits that belong to no byte.
                let last = parts_now[part].pop().unwrap_or('A');
                parts_now[part].push(if last == 'Z' { 'a' } else { char::from(last as u8 + 1) });
            }
            4 => drop(parts_now[part].pop()),
            5 => {
                let mut bytes = decoded;
                let at = self.chance.random_range(0..bytes.len());
                bytes[at] ^= 1 << self.chance.random_range(0..8);
                parts_now[part] = encode(bytes);
            }
            6 => parts_now[2] = String::new(),
            7 => parts_now[part] = encode(vec![0; decoded.len()]),
            _ => {
                let mut text = before.clone().into_bytes();
                text[at] = b"ABab09-_.=+/ "[self.chance.random_range(0..13)];
                parts_now = vec![String::from_utf8(text).unwrap()];
            }
        }
        mutant.token = parts_now.join(".");
        mutant.how.push_str("; changed after it was signed");
        mutant.is_signed = mutant.token == before;
    }
}

const HEADER: [&str; 12] = ["alg", "typ", "kid", "cty", "crit", "b64", "zip", "jwk", "jku", "x5c", "x5t", "p2c"];
const CLAIMS: [&str; 16] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "sid",
    "org_id",
    "organization_membership_id",
    "role",
    "roles",
    "permissions",
    "act",
    "nonce",
    "x",
];

fn members(object: &Value) -> Vec<Member> {
    object.as_object().unwrap().iter().map(|(name, value)| (json!(name).to_string(), value.to_string())).collect()
}

/// Changes one member; says which.
fn change(chance: &mut StdRng, object: &mut Vec<Member>, names: &[&str], what: &str) -> String {
    let name = json!(names[chance.random_range(0..names.len())]).to_string();
    let value = value(chance, &name);
    let at = object.iter().position(|(other, _)| *other == name);
    match (chance.random_range(0..8), at) {
        (0, Some(at)) => drop(object.remove(at)),
        (1, Some(at)) => {
            // The same name once more, before or after, plain or escaped.
            let again = if chance.random_ratio(1, 2) { name.clone() } else { escaped(&name) };
            object.insert(if chance.random_ratio(1, 2) { at } else { object.len() }, (again, value.clone()));
        }
        (2, Some(at)) => object[at].0 = escaped(&name),
        (3, Some(at)) => {
            let member = object.remove(at);
            object.insert(chance.random_range(0..=object.len()), member);
        }
        (4, _) => object.push((json!(format!("x{}", chance.random_range(0..100))).to_string(), value.clone())),
        (_, Some(at)) => object[at].1.clone_from(&value),
        (_, None) => object.push((name.clone(), value.clone())),
    }
    format!("{what} {name} {value}; ")
}

/// A name whose first letter is written as an escape.
fn escaped(name: &str) -> String {
    let letter = name.chars().nth(1).unwrap_or('x');
    format!("\"\\u{:04x}{}", u32::from(letter), name.chars().skip(2).collect::<String>())
}

/// A value: what fits the name, or what fits nothing.
fn value(chance: &mut StdRng, name: &str) -> String {
    let now = NOW.0;
    let dates = [
        (now + 1).to_string(),
        (now - 29).to_string(),
        (now - 30).to_string(),
        (now - 31).to_string(),
        (now + 29).to_string(),
        (now + 30).to_string(),
        (now + 31).to_string(),
        format!("{}.5", now + 29),
        format!("{}.999999", now - 31),
        format!("{}.5", now + 30),
        format!("{}e0", now + 5),
        format!("{}E-1", (now + 5) * 10),
        format!("{now}.0"),
        "18000001e2".to_owned(),
        "1e400".to_owned(),
        "-1".to_owned(),
        "-0".to_owned(),
        "-0.0".to_owned(),
        "0".to_owned(),
        "9007199254740993".to_owned(),
        "18446744073709551616".to_owned(),
        "253402300799".to_owned(),
        "253402300800".to_owned(),
        format!("\"{}\"", now + 5),
        format!("[{}]", now + 5),
        format!("0{now}"),
    ];
    let texts = [
        "\"JWT\"",
        "\"at+jwt\"",
        "\"jwt\"",
        "\"application/at+jwt\"",
        "\"JOSE\"",
        "\"none\"",
        "\"HS256\"",
        "\"RS256\"",
        "\"RS512\"",
        "\"ES256\"",
        "\"EdDSA\"",
        "\"Ed25519\"",
        "\"nOnE\"",
        "\"org_other\"",
        "\"user_eve\"",
        "\"\"",
        "\"a\\u0000b\"",
        "\"\\ud800\"",
        "\"\\ud83d\\ude00\"",
        "\"caf\u{e9}\"",
        "\"\u{1}\"",
        "\"api\"",
    ];
    let odd = [
        "null",
        "true",
        "false",
        "{}",
        "[]",
        "[null]",
        "[\"api\"]",
        "[\"api\",1]",
        "{\"a\":{\"a\":1,\"a\":2}}",
        "{\"sub\":\"x\"}",
        "[[[[[[[[]]]]]]]]",
        "1",
        "1.5",
        "[\"exp\"]",
        "[\"b64\"]",
        "{\"kty\":\"oct\",\"k\":\"AAAA\"}",
        "NaN",
        "Infinity",
        "undefined",
        "'x'",
        "0x10",
        "\"",
        "[1,]",
    ];
    if name == "\"iss\"" && chance.random_ratio(1, 2) {
        return [json!(ISS).to_string(), json!([ISS]).to_string(), json!(format!("{ISS}/")).to_string()]
            [chance.random_range(0..3)]
        .clone();
    }
    let is_date = matches!(name, "\"exp\"" | "\"nbf\"" | "\"iat\"");
    if chance.random_ratio(if is_date { 4 } else { 1 }, 5) && is_date {
        return dates[chance.random_range(0..dates.len())].clone();
    }
    if chance.random_ratio(1, 2) {
        texts[chance.random_range(0..texts.len())]
    } else {
        odd[chance.random_range(0..odd.len())]
    }
    .to_owned()
}
