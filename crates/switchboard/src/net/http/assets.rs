//! Files that are part of the program: the browser client, under its own name and the two that ActionHero's pages know,
//! and a chat page for servers without a public folder.

use std::sync::LazyLock;

use hyper::header::HeaderValue;

use super::conditions::Version;

/// A file that is part of the program.
#[derive(Debug)]
pub(super) struct Asset {
    name: &'static str,
    /// Whether it belongs to the chat page, which a public folder replaces.
    pub(super) is_page: bool,
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
        const INDEX: &str = include_str!("../../../assets/chat/index.html");
        [
            ("javascript/switchboard.js", JAVASCRIPT, SWITCHBOARD),
            ("javascript/switchboard.d.ts", "application/typescript; charset=utf-8", TYPES),
            ("javascript/actionheroClient.js", JAVASCRIPT, ACTIONHERO),
            ("javascript/actionheroClient.min.js", JAVASCRIPT, ACTIONHERO),
            ("javascript/ActionheroClient.js", JAVASCRIPT, ACTIONHERO),
            ("javascript/ActionheroClient.min.js", JAVASCRIPT, ACTIONHERO),
            ("javascript/ActionheroWebsocketClient.js", JAVASCRIPT, ACTIONHERO),
            ("javascript/ActionheroWebsocketClient.min.js", JAVASCRIPT, ACTIONHERO),
            ("", HTML, INDEX),
            ("index.html", HTML, INDEX),
            ("chat.css", "text/css; charset=utf-8", include_str!("../../../assets/chat/chat.css")),
            ("chat.js", JAVASCRIPT, include_str!("../../../assets/chat/chat.js")),
            ("icon.svg", "image/svg+xml", include_str!("../../../assets/chat/icon.svg")),
        ]
        .map(|(name, content_type, content)| asset(name, content_type, content))
        .into()
    });
    ASSETS.iter().find(|asset| asset.name == name)
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

fn asset(name: &'static str, content_type: &'static str, content: &'static str) -> Asset {
    let digest = ring::digest::digest(&ring::digest::SHA256, content.as_bytes());
    let tag = digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Asset {
        name,
        is_page: !name.starts_with("javascript/"),
        content: content.as_bytes(),
        content_type: HeaderValue::from_static(content_type),
        version: Version { tag: format!("\"{tag}\""), modified: None },
    }
}
