//! The runner's environment variables, made into arguments.

use std::ffi::OsString;

/// The program's arguments, with what the environment says about `interop` added where they are silent.
pub fn arguments(given: Vec<OsString>, variable: impl Fn(&str) -> Option<String>) -> Vec<OsString> {
    if given.get(1).is_none_or(|command| command != "interop") {
        return given;
    }
    let mut arguments = given;
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    if arguments.get(2).is_none_or(|role| role.to_string_lossy().starts_with("--"))
        && !asks_for_help(&arguments)
    {
        let Some(role) = variable("ROLE") else { return arguments };
        arguments.insert(2, role.into());
    }
    let server = arguments.get(2).is_some_and(|role| role == "server");
    let client = arguments.get(2).is_some_and(|role| role == "client");
    if let Some(parameters) = variable(if server { "SERVER_PARAMS" } else { "CLIENT_PARAMS" }) {
        // In front of paths: options may stand anywhere, and a value that is missing takes no path.
        arguments.splice(3..3, parameters.split_whitespace().map(OsString::from));
    }
    let has = |option: &str, arguments: &[OsString]| {
        arguments.iter().any(|argument| {
            let argument = argument.to_string_lossy();
            argument == option || argument.strip_prefix(option).is_some_and(|rest| rest.starts_with('='))
        })
    };
    if (server || client)
        && !has("--test", &arguments)
        && let Some(case) = variable("TESTCASE")
    {
        arguments.splice(3..3, ["--test".into(), case.into()]);
    }
    if client
        && !has("--connect", &arguments)
        && let Some(requests) = variable("REQUESTS")
    {
        arguments.extend(requests.split_whitespace().map(OsString::from));
    }
    arguments
}

fn asks_for_help(arguments: &[OsString]) -> bool {
    arguments.iter().any(|argument| argument == "--help" || argument == "help")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(given: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let given = given.iter().map(OsString::from).collect();
        arguments(given, find).into_iter().map(|text| text.into_string().unwrap()).collect()
    }

    #[test]
    fn the_runners_variables_become_arguments() {
        let client = [
            ("ROLE", "client"),
            ("TESTCASE", "transfer"),
            ("CLIENT_PARAMS", "--xdp eth0"),
            ("SERVER_PARAMS", "--nonsense"),
            ("REQUESTS", "https://server4:443/a https://server4:443/b"),
        ];
        assert_eq!(
            expand(&["wirepath", "interop"], &client)[1..],
            [
                "interop",
                "client",
                "--test",
                "transfer",
                "--xdp",
                "eth0",
                "https://server4:443/a",
                "https://server4:443/b"
            ]
        );
        let server =
            [("ROLE", "server"), ("TESTCASE", "retry"), ("REQUESTS", "https://x/y"), ("SERVER_PARAMS", "")];
        assert_eq!(expand(&["wirepath", "interop"], &server)[1..], ["interop", "server", "--test", "retry"]);
    }

    #[test]
    fn the_command_line_comes_first() {
        let variables = [("ROLE", "client"), ("TESTCASE", "retry"), ("REQUESTS", "https://server4:443/a")];
        let given = ["wirepath", "interop", "server", "--test=handshake"];
        assert_eq!(expand(&given, &variables), given);
        let given = ["wirepath", "interop", "client", "--test", "ecn", "--connect", "[::1]:4433", "b"];
        assert_eq!(expand(&given, &variables), given);
        for other in [&["wirepath"][..], &["wirepath", "serve", "x"]] {
            assert_eq!(expand(other, &variables), other);
        }
    }
}
