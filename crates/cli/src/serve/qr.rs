//! An address as a code that a phone's camera reads off a terminal.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// The code in half blocks. Colours are set where a terminal shows them, so that it is dark on light on every one.
pub(crate) fn code(text: &str, is_coloured: bool) -> String {
    let Ok(code) = QrCode::with_error_correction_level(text, EcLevel::L) else { return String::new() };
    // Without colours, light modules are drawn: most terminals write light on dark.
    let (dark, light) = if is_coloured { (Dense1x2::Dark, Dense1x2::Light) } else { (Dense1x2::Light, Dense1x2::Dark) };
    let drawn = code.render::<Dense1x2>().dark_color(dark).light_color(light).quiet_zone(true).build();
    drawn.lines().fold(String::new(), |all, line| {
        if is_coloured { format!("{all}\x1b[30;107m{line}\x1b[0m\n") } else { format!("{all}{line}\n") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_fits_on_a_small_terminal() {
        let drawn = code("http://192.168.100.100:8080", false);
        let lines: Vec<&str> = drawn.lines().collect();
        assert!((12..=20).contains(&lines.len()), "{}", lines.len());
        assert!(
            lines.iter().all(|line| line.chars().count() == lines[0].chars().count() && line.chars().count() <= 40)
        );
        assert!(lines[0].chars().all(|c| c == '█'), "the quiet zone is light");
        assert!(code("x", true).lines().all(|line| line.starts_with("\x1b[30;107m") && line.ends_with("\x1b[0m")));
    }
}
