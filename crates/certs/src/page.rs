//! The page that explains how to trust the authority, on each kind of device.

use crate::Name;
use std::fmt::Write as _;

/// One kind of device: its name and the steps, in which `{file}` is a link to the certificate, `{pem}` one to it as PEM, and
/// `{name}` the name of that file.
const DEVICES: [(&str, &[&str]); 6] = [
    (
        "Android",
        &[
            "Download {file}.",
            "Settings → Security → More security settings → Encryption &amp; credentials → Install a certificate → \
             <b>CA certificate</b> → Install anyway, and choose the file. (On some devices: search the settings for \
             “CA certificate”.)",
            "Firefox for Android: Settings → About Firefox, tap the logo five times; then Settings → Secret settings → \
             Use third party CA certificates.",
        ],
    ),
    (
        "iPhone and iPad",
        &[
            "Open this page in Safari and tap {file}; allow the download of a profile. (Where it is saved as a file instead: \
             tap it in the app Files.)",
            "Settings → Profile Downloaded → Install.",
            "Settings → General → About → Certificate Trust Settings: switch it on. Without this last step nothing changes.",
        ],
    ),
    (
        "macOS",
        &[
            "Download {file} and double-click it: it goes to the login keychain.",
            "In Keychain Access double-click it there, open Trust, and choose “Always Trust”.",
            "Or in a terminal: <code>security add-trusted-cert -r trustRoot -k \
             ~/Library/Keychains/login.keychain-db ca.crt</code>",
        ],
    ),
    (
        "Windows",
        &[
            "Download {file} and double-click it: Install Certificate → Current User → “Place all certificates in the \
             following store” → <b>Trusted Root Certification Authorities</b>.",
            "Or in a terminal: <code>certutil -user -addstore Root ca.crt</code>",
        ],
    ),
    (
        "Linux",
        &[
            "Download {pem}: what follows wants it in this form.",
            "Debian, Ubuntu: <code>sudo cp {name} /usr/local/share/ca-certificates/weaprous.crt &amp;&amp; sudo \
             update-ca-certificates</code>",
            "Fedora, Arch: <code>sudo trust anchor {name}</code>",
            "Chrome and Chromium have their own list: Settings → Privacy and security → Security → Manage certificates → \
             Authorities (or Installed by you) → Import; or <code>certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n weaprous -i \
             {name}</code>",
        ],
    ),
    (
        "Firefox",
        &[
            "On Windows and macOS it follows the system. Elsewhere: Settings → Privacy &amp; Security → Certificates → View \
             Certificates → Authorities → Import {file} → “Trust this CA to identify websites”.",
        ],
    ),
];

/// The whole page, with links to the certificate for most devices, and to the same as PEM.
pub(crate) fn trust(fingerprint: &str, names: &[Name], download: &str, pem: &str) -> String {
    let link = format!("<a href=\"{download}\" download>ca.crt</a>");
    let pem_name = pem.rsplit('/').next().unwrap_or(pem);
    let pem_link = format!("<a href=\"{pem}\" download>{pem_name}</a>");
    let mut devices = String::new();
    for (device, steps) in DEVICES {
        // Writing to a string cannot fail.
        let _ = write!(devices, "<details>\n<summary>{device}</summary>\n<ol>\n");
        for step in steps {
            let step = step.replace("{file}", &link).replace("{pem}", &pem_link).replace("{name}", pem_name);
            let _ = writeln!(devices, "<li>{step}</li>");
        }
        devices.push_str("</ol>\n</details>\n");
    }
    let names: Vec<String> = names.iter().map(|name| format!("<code>{name}</code>")).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Trust this server</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>Trust this server</h1>\n\
         <p>This server has a certificate of its own authority, because nobody else signs names and addresses of a home or \
         office network. Tell each device once to trust it; after that the lock is closed, and notifications, keys and \
         the camera work.</p>\n\
         <p><strong>1.</strong> Download {link}.<br><strong>2.</strong> Follow the steps of your device.<br>\
         <strong>3.</strong> Close the browser and open the page again.</p>\n{devices}\
         <h2>Before you trust it</h2>\n<p>Whoever has the key of this authority can pretend to be any site to your device. \
         The key lies on the server alone. Compare the fingerprint your device shows (SHA-256) with what <code>weaprous \
         cert --lan</code> prints there:</p>\n<p><code class=\"fingerprint\">{fingerprint}</code></p>\n\
         <p>It is used for: {}.</p>\n\
         <p>To stop trusting it, remove “WeApRous development CA” at the same place.</p>\n</main>\n</body>\n</html>\n",
        names.join(", ")
    )
}

const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;margin:0}main{max-width:42rem;margin:auto;padding:1rem}\
    details{border-block-start:1px solid #8886;padding-block:.5rem}summary{cursor:pointer;font-weight:600}\
    code{overflow-wrap:anywhere}";
