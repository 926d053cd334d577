//! The scripts that come with the server: the browser client, under its own name and the two that ActionHero's pages know.

use std::sync::LazyLock;

use hyper::header::HeaderValue;

use super::conditions::Version;

/// A file that is part of the program.
#[derive(Debug)]
pub(super) struct Asset {
    name: &'static str,
    pub(super) content: &'static [u8],
    pub(super) content_type: HeaderValue,
    pub(super) version: Version,
}

/// The asset of that name, below the public folder.
pub(super) fn find(name: &str) -> Option<&'static Asset> {
    static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
        const SWITCHBOARD: &str = include_str!("../../../assets/javascript/switchboard.js");
        const TYPES: &str = include_str!("../../../assets/javascript/switchboard.d.ts");
        const ACTIONHERO: &str = include_str!("../../../assets/javascript/actionheroClient.js");
        [
            ("javascript/switchboard.js", SWITCHBOARD),
            ("javascript/switchboard.d.ts", TYPES),
            ("javascript/actionheroClient.js", ACTIONHERO),
            ("javascript/actionheroClient.min.js", ACTIONHERO),
            ("javascript/ActionheroClient.js", ACTIONHERO),
            ("javascript/ActionheroClient.min.js", ACTIONHERO),
            ("javascript/ActionheroWebsocketClient.js", ACTIONHERO),
            ("javascript/ActionheroWebsocketClient.min.js", ACTIONHERO),
        ]
        .map(|(name, content)| asset(name, content))
        .into()
    });
    ASSETS.iter().find(|asset| asset.name == name)
}

fn asset(name: &'static str, content: &'static str) -> Asset {
    let content_type = if name.ends_with(".ts") {
        HeaderValue::from_static("application/typescript; charset=utf-8")
    } else {
        HeaderValue::from_static("text/javascript; charset=utf-8")
    };
    let digest = ring::digest::digest(&ring::digest::SHA256, content.as_bytes());
    let tag = digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let version = Version { tag: format!("\"{tag}\""), modified: None };
    Asset { name, content: content.as_bytes(), content_type, version }
}
