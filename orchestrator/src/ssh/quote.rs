//! The one function that puts a text into a shell's command line.

/// Quotes an argument so that a POSIX shell (sh, dash, bash, busybox) reads back exactly this text, whatever is in it but
/// NUL, which no argument can hold; [`Command::line`](super::Command::line) refuses that.
pub fn quote(argument: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:=@,+".contains(&byte);
    // An assignment is none when it is an argument, but the first word of a line could be one; so `=` is plain only
    // after a dash.
    let bare =
        !argument.is_empty() && argument.bytes().all(plain) && (argument.starts_with('-') || !argument.contains('='));
    if bare { argument.to_owned() } else { format!("'{}'", argument.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// What the shell makes of the arguments, each ended by NUL.
    fn read_back(shell: &[&str], arguments: &[String]) -> Vec<String> {
        let quoted: Vec<String> = arguments.iter().map(|argument| quote(argument)).collect();
        let script = format!("printf '%s\\0' {}", quoted.join(" "));
        let output = Command::new(shell[0]).args(&shell[1..]).arg("-c").arg(script).output().unwrap();
        assert!(output.status.success(), "{shell:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    fn shells() -> Vec<Vec<&'static str>> {
        let all: [&[&str]; 3] = [&["sh"], &["bash"], &["busybox", "sh"]];
        let present = all
            .into_iter()
            .filter(|shell| Command::new(shell[0]).args(&shell[1..]).arg("-c").arg(":").output().is_ok());
        present.map(<[&str]>::to_vec).collect()
    }

    #[test]
    fn what_shells_care_about_is_read_back_as_it_was() {
        let awkward = [
            "",
            " ",
            "'",
            "''",
            "'\\''",
            "\"",
            "\\",
            "\\n",
            "\n",
            "a\nb",
            "\t",
            "$HOME",
            "$(id)",
            "`id`",
            "!!",
            "*",
            "?",
            "[a]",
            "{a,b}",
            "~",
            "~root",
            "#",
            ";",
            "&&",
            "|",
            ">x",
            "<",
            "-n",
            "--",
            "A=b",
            "--env=A=b c",
            "é",
            "日本",
            "%s",
            "\u{1b}[0m",
            "\r",
            "\u{7f}",
            "=ls",
            "^a",
            "a'b\"c\\d$e`f",
        ]
        .map(str::to_owned);
        for shell in shells() {
            assert_eq!(read_back(&shell, &awkward), awkward, "{shell:?}");
        }
    }

    #[test]
    fn two_shells_at_least_are_asked() {
        assert!(shells().len() >= 2, "{:?}", shells());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_arguments_are_read_back_as_they_were(
            arguments in prop::collection::vec("[^\\x00]{0,40}|['\"\\\\$` \n!*a-]{0,12}", 1..20)
        ) {
            for shell in shells() {
                prop_assert_eq!(&read_back(&shell, &arguments), &arguments);
            }
        }
    }
}
