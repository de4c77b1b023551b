//! What each error says.

use crate::config::parse;
use crate::config::tests::TREE;

/// The file is refused for one reason; the message begins with the line and has `message` in it.
fn says(text: &str, line: usize, message: &str) {
    let errors = parse(text).expect_err(text);
    let said = errors.to_string();
    assert_eq!(errors.iter().count(), 1, "{text}\nsaid {said}");
    assert!(said.starts_with(&format!("line {line}")), "{text}\nsaid    {said}\ninstead line {line}");
    assert!(said.contains(message), "{text}\nsaid    {said}\ninstead {message}");
}

/// As [`says`], for a line in the least file's tree.
fn tree_says(line: &str, message: &str) {
    says(&format!("{TREE}{line}\n"), 3, &format!("tree[0].{message}"));
}

/// As [`says`], for a file whose only tree has this upstream.
fn upstream_says(value: &str, message: &str) {
    says(&format!("[[tree]]\nupstream = {value}\n"), 2, &format!("tree[0].upstream{message}"));
}

/// As [`says`], for a first line before the least file.
fn top_says(line: &str, message: &str) {
    says(&format!("{line}\n{TREE}"), 1, message);
}

/// As [`says`], for a section of one line after the least file.
fn section_says(header: &str, line: &str, message: &str) {
    says(&format!("{TREE}{header}\n{line}\n"), 4, message);
}

#[test]
fn values_of_a_tree_are_refused_with_key_value_and_what_is_allowed() {
    let number = "a whole number from";
    tree_says(
        "refresh_secs = 0",
        &format!("refresh_secs = 0: out of bounds; allowed: {number} 1 to 2592000"),
    );
    tree_says("refresh_secs = -5", &format!("refresh_secs = -5: out of bounds; allowed: {number} 1"));
    tree_says("refresh_secs = \"1h\"", &format!("refresh_secs = \"1h\": of type string; allowed: {number}"));
    tree_says(
        "jitter_percent = 51",
        &format!("jitter_percent = 51: out of bounds; allowed: {number} 0 to 50"),
    );
    tree_says("jitter_percent = 300", "jitter_percent = 300: out of bounds; allowed: ");
    tree_says(
        "keep_generations = 1.5",
        &format!("keep_generations = 1.5: of type float; allowed: {number} 1"),
    );
    tree_says("prefetch = \"x\"", "prefetch = \"x\": no such word; allowed: \"all\", \"used\" or \"none\"");
    tree_says("prefetch = true", "prefetch = true: of type boolean; allowed: \"all\"");
    tree_says("name = \"A\"", "name = \"A\": no name for a folder and a label; allowed: 1 to 64 of a-z");
    tree_says(
        "path = \"/au\"",
        "path = \"/au\": it does not begin and end with '/'; allowed: a path such as",
    );
    tree_says("public_base = \"http://r/au\"", "public_base = \"http://r/au\": it has a path or");
    says(&format!("{TREE}path = \"/-/\""), 1, "tree[0].name: no name can be made of the path /-/");
}

#[test]
fn upstreams_are_refused_with_what_is_allowed() {
    let allowed = "; allowed: an http or https URL";
    says("[[tree]]", 1, &format!("tree[0].upstream: missing{allowed}"));
    upstream_says("\"\"", &format!(" = \"\": it is empty{allowed}"));
    upstream_says("[]", &format!(" = []: a list of 0{allowed}"));
    upstream_says("\"ftp://h/\"", &format!(" = \"ftp://h/\": the scheme is 'ftp'{allowed}"));
    upstream_says("\"http:/h\"", &format!(" = \"http:/h\": a URL has '//' after its scheme{allowed}"));
    upstream_says(
        "\"http://h/?v=1\"",
        &format!(" = \"http://h/?v=1\": it has a query or a fragment{allowed}"),
    );
    upstream_says("\"http://u:p@h/\"", " = \"http://***@h/\": it holds credentials");
    upstream_says("[\"http://h/\", 7]", &format!("[1] = 7: of type integer{allowed}"));
    upstream_says(
        "[\"http://h/\", \"/a\"]",
        &format!(" = [\"http://h/\", \"/a\"]: the folder '/a' stands in a list{allowed}"),
    );
    upstream_says(
        r#"["/a\u001b\nb", "/c"]"#,
        &format!(r#" = ["/a\u001b\nb", "/c"]: the folder '/a  b' stands in a list{allowed}"#),
    );
    upstream_says(
        "[\"http://h\", \"http://h/\"]",
        &format!(" = [\"http://h\", \"http://h/\"]: http://h/ stands in it twice{allowed}"),
    );
}

#[test]
fn catalogue_rules_need_a_class_and_something_to_know_by() {
    tree_says(
        "catalogue = [{ class = \"driver\" }]",
        "catalogue[0].label: missing; allowed: a component's label",
    );
    tree_says("catalogue = [{ label = \"X\" }]", "catalogue[0].class: missing; allowed: \"pattern\", ");
    tree_says(
        "catalogue = [{ path = \"\", class = \"driver\" }]",
        "catalogue[0].path = \"\": a pattern has 1 to 256 bytes; ",
    );
    tree_says("catalogue = { path = \"X\" }", "catalogue: of type table; allowed: up to 1024 tables");
}

#[test]
fn trees_that_are_missing_or_overlap_are_refused() {
    let missing = "tree: missing; allowed: at least one table [[tree]]";
    says("", 1, missing);
    says("tree = []", 1, missing);
    says("[tree]\nupstream = \"/a\"", 1, ": of type table; allowed: up to 64 tables, each as [[tree]]");
    says(
        "tree = [5]",
        1,
        "tree = [5]: a list with something of type integer in it; allowed: up to 64 tables",
    );
    let second = |lines: &str| format!("{TREE}{TREE}{lines}");
    let overlap = "/activeupdate/ of the tree 'activeupdate' overlap; allowed: a path";
    says(&second("path = \"/activeupdate/b/\""), 5, &format!("/activeupdate/b/ and {overlap}"));
    says(&second("name = \"b\""), 3, &format!("tree[1].path: /activeupdate/ and {overlap}"));
    says(&second(""), 3, overlap);
    let named = second("path = \"/b/\"\nname = \"activeupdate\"");
    says(
        &named,
        6,
        "tree[1].name = \"activeupdate\": another tree is named 'activeupdate'; allowed: 1 to 64",
    );
    let bad_first = format!("{TREE}path = \"/activeupdate\"\n{TREE}");
    says(&bad_first, 3, "tree[0].path = \"/activeupdate\": it does not begin and end with '/'");
    let derived = format!("{TREE}path = \"/a.b/\"\n{TREE}path = \"/a/b/\"");
    says(&derived, 4, "tree[1].name: another tree is named 'a-b'; allowed: 1 to 64");
}

#[test]
fn addresses_that_are_none_or_clash_are_refused() {
    let allowed = "; allowed: an address and port such as";
    top_says(
        "listen = \"localhost:80\"",
        &format!("listen = \"localhost:80\": no address and port{allowed}"),
    );
    top_says("listen = []", &format!("listen = []: a list of 0{allowed}"));
    top_says(
        "listen = [\"[fe80::1%eth0]:80\"]",
        "listen[0] = \"[fe80::1%eth0]:80\": no address and port with a zone",
    );
    let both = "listen = [\"0.0.0.0:80\", \"10.0.0.1:80\"]";
    top_says(both, &format!("listen[1] = \"10.0.0.1:80\": it takes the port of 0.0.0.0:80{allowed}"));
    top_says("admin.listen = \"[::]:8080\"", "admin.listen = \"[::]:8080\": it takes the port of [::]:8080");
    top_says(
        "listen = \"[::]:8081\"",
        "admin.listen: the default [::1]:8081 takes a port that another listener has",
    );
    top_says(
        "tls.listen = \"[::]:8443\"",
        "tls.certificate: missing; allowed: at least one table [[tls.certificate]]",
    );
    let certificate = "chain = \"c\"\nkey = \"k\"";
    says(&format!("{TREE}[[tls.certificate]]\n{certificate}\n"), 3, "tls.listen: missing");
    top_says("tls.client_ca_files = \"c\"", "tls.listen: missing");
    for (value, reason) in [("\"\"", "it is empty"), ("[]", "a list of 0"), ("1", "of type integer")] {
        let keys =
            format!("client_ca_files = {value}\nlisten = \"[::]:8443\"\n[[tls.certificate]]\n{certificate}");
        section_says("[tls]", &keys, reason);
    }
    section_says(
        "[tls]",
        &format!("listen = \"[::]:8080\"\n[[tls.certificate]]\n{certificate}"),
        "it takes the port of [::]:8080",
    );
    section_says(
        "[tls]",
        &format!("listen = \"127.0.0.1:8081\"\n[[tls.certificate]]\n{certificate}"),
        "it takes the port of 127.0.0.1:8081",
    );
    parse(&format!("listen = [\"0.0.0.0:80\", \"[::]:80\", \"127.0.0.1:0\", \"127.0.0.1:0\"]\n{TREE}"))
        .unwrap();
}

#[test]
fn the_other_sections_refuse_with_what_is_allowed() {
    top_says("workers = 0", "workers = 0: out of bounds; allowed: a whole number from 1 to 1024");
    top_says("data = \"\"", "data = \"\": it is empty; allowed: the path of a folder");
    top_says("admin = 1", "admin = 1: of type integer; allowed: a table, [admin]");
    section_says(
        "[log]",
        "level = \"warning\"",
        "log.level = \"warning\": no such word; allowed: \"error\", \"warn\"",
    );
    let bytes = "a number of bytes from 8192 to 1048576";
    section_says(
        "[limits]",
        "head_bytes_max = \"4 KiB\"",
        &format!(" = \"4 KiB\": out of bounds; allowed: {bytes}"),
    );
    section_says("[limits]", "head_bytes_max = \"16 KB\"", " = \"16 KB\": no whole number with a unit");
    let path = "limits.path_bytes_max = \"17 KiB\": over head_bytes_max, 16384; allowed: a number";
    section_says("[limits]", "path_bytes_max = \"17 KiB\"", path);
    section_says(
        "[fill]",
        "prefetch_at_once = 33",
        "fill.prefetch_at_once = 33: over at_once, 32; allowed: ",
    );
    section_says(
        "[upstream]",
        "ca_file = 1",
        "upstream.ca_file = 1: of type integer; allowed: the path of a PEM file",
    );
    let delay = "upstream.attempt_delay_ms = 99: out of bounds; allowed: a whole number from 100 to 2000";
    section_says("[upstream]", "attempt_delay_ms = 99", delay);
    let prefix =
        "upstream.nat64_prefix = \"64:ff9b::/95\": its length is not 32, 40, 48, 56, 64 or 96; allowed: ";
    section_says("[upstream]", "nat64_prefix = \"64:ff9b::/95\"", prefix);
    let hosts =
        "upstream.hosts = \"au.example 192.0.2.1\": it does not begin with an address; allowed: a line";
    section_says("[upstream]", "hosts = \"au.example 192.0.2.1\"", hosts);
    section_says(
        "[upstream]",
        "nameservers = \"dns.example\"",
        "upstream.nameservers = \"dns.example\": no address; ",
    );
    tree_says(
        "family = \"both\"",
        "family = \"both\": no such word; allowed: \"race\", \"ipv4\" or \"ipv6\"",
    );
    tree_says(
        "source_ipv4 = \"::1\"",
        "source_ipv4 = \"::1\": no IPv4 address; allowed: an IPv4 address of this machine",
    );
    tree_says(
        "source_ipv6 = \"::\"",
        "source_ipv6 = \"::\": no connection over IPv6 can come from it; allowed: ",
    );
}

#[test]
fn agents_are_refused_with_what_is_allowed() {
    let unknown = "agents.unknown = \"none\": no such word; allowed: \"refuse\", \"patterns\"";
    section_says("[agents]", "unknown = \"none\"", unknown);
    let bits = "agents.range[0].from = \"10.1.0.0/8\": host bits are set; the prefix is 10.0.0.0/8; allowed: an IPv4";
    section_says("[[agents.range]]", "from = \"10.1.0.0/8\"\nscope = \"all\"", bits);
    let ranges = |tables: &str| format!("agents.range = [{tables}]\n{TREE}");
    let all = "{ from = \"::/0\", scope = \"all\" }";
    let scope =
        "agents.range[0].scope: missing; allowed: \"patterns\", \"patterns-engines-drivers\" or \"all\"";
    says(&ranges("{ from = \"::/0\" }"), 1, scope);
    says(&ranges("{ scope = \"all\" }"), 1, "agents.range[0].from: missing; allowed: an IPv4 or IPv6 prefix");
    let twice = ranges(&format!("{all}, {all}"));
    says(&twice, 1, "agents.range[1].from = \"::/0\": another range has this prefix; allowed: an IPv4");
    let many = ranges(&format!("{all}, ").repeat(1025));
    says(&many, 1, ": a list of 1025; allowed: up to 1024 tables, each as [[agents.range]]");
}

#[test]
fn unknown_keys_are_named_with_their_table_and_the_nearest_key() {
    let limits = "limits.head_byte_max: unknown key in [limits] (is 'head_bytes_max' meant?); allowed: head_bytes_max, ";
    section_says("[limits]", "head_byte_max = 1", limits);
    tree_says("refresh = 1", "refresh: unknown key in [[tree]]; allowed: path, name, upstream, family, ");
    let elsewhere =
        "refresh_secs: unknown key in the top level (is 'tree.refresh_secs' meant?); allowed: data, ";
    top_says("refresh_secs = 1", elsewhere);
    top_says("\"a\\nb\" = 1", "\"a\\nb\": unknown key in the top level; allowed: data, ");
    top_says("log.file.name = 1", "log.file: unknown key in [log]; allowed: format, level, access");
    let rule = "catalogue = [{ path = \"p\", class = \"driver\", kind = 1 }]";
    tree_says(rule, "catalogue[0].kind: unknown key in [[tree.catalogue]]; allowed: label, path, class");
}

#[test]
fn all_errors_of_a_file_are_told_together_in_its_order() {
    let text = "colour = 1\nworkers = 0\n[log]\nlevel = 3\n[[tree]]\nupstream = \"ftp://x/\"\nrefresh_secs = 0\n\
                [fill]\nattempt = 1\n";
    let errors = parse(text).unwrap_err();
    assert_eq!(errors.iter().map(|error| error.line().unwrap()).collect::<Vec<_>>(), [1, 2, 4, 6, 7, 9]);
    assert_eq!(errors.to_string().lines().count(), 6);
}

#[test]
fn text_that_is_not_toml_is_told_by_place() {
    says("data = \"a\"\ndata = \"b\"", 2, ", column 1: not valid TOML: duplicate key");
    let errors = parse("workers = 1\nlisten = [\n[[tree]]\na = b = c\n").unwrap_err();
    let lines: Vec<_> = errors.iter().map(|error| error.line().unwrap()).collect();
    assert!(lines.is_sorted_by(|one, next| one < next), "one error a line: {errors}");
    for error in &errors {
        let said = error.to_string();
        assert!(
            said.starts_with("line ") && said.contains("not valid TOML: ") && !said.contains('\n'),
            "{said}"
        );
    }
}

#[test]
fn a_mount_holds_no_file_of_a_tree_r6_2() {
    let mounted = |upstream: &str| {
        let tree = "[[tree]]\nupstream = \"http://au.example/activeupdate/\"\n";
        parse(&format!("{tree}[[mount]]\npath = \"/m/\"\nupstream = \"{upstream}\"\n"))
    };
    for upstream in [
        "http://au.example/",
        "http://AU.example.:80/activeupdate",
        "http://au.example/ACTIVEUPDATE/product/",
        "https://au.example:80/",
    ] {
        let said = mounted(upstream).unwrap_err().to_string();
        assert!(said.contains("mount[0].upstream") && said.contains("the tree 'activeupdate'"), "{said}");
    }
    for upstream in
        ["http://au.example/other/", "http://au.example:81/", "http://files.example/activeupdate/"]
    {
        mounted(upstream).unwrap();
    }
}

#[test]
fn administrators_are_listened_to_on_loopback_or_with_tls_r11_1() {
    let says_why = "other machines reach it, and without TLS anybody on the way could read administrators' tokens: use \
        admin.tls.listen, or say admin.clear_text = \"allow\"; allowed: an address and port";
    top_says(
        "admin.listen = \"0.0.0.0:8081\"",
        &format!("admin.listen = \"0.0.0.0:8081\": 0.0.0.0:8081: {says_why}"),
    );
    top_says(
        "admin = { listen = [\"[::1]:1\", \"[2001:db8::1]:1\"] }",
        &format!("[2001:db8::1]:1: {says_why}"),
    );
    parse(&format!("admin = {{ listen = \"0.0.0.0:1\", clear_text = \"allow\" }}\n{TREE}")).unwrap();
    let certificate = "admin.tls.certificate: missing; allowed: at least one table [[admin.tls.certificate]]";
    says(&format!("{TREE}[admin.tls]\nlisten = \"[::]:1\"\n"), 3, certificate);
    let tls = |lines: &str| {
        format!(
            "admin.tls = {{ listen = \"[::]:1\", certificate = [{{ chain = \"a\", key = \"b\" }}], {lines} }}\n{TREE}"
        )
    };
    says(&tls("client = [{ name = \"a\", role = \"viewer\" }]"), 1, "admin.tls.client_ca_files: missing");
    says(
        &tls("client_ca_files = \"c\", client = [{ name = \"*.a\", role = \"viewer\" }]"),
        1,
        "no name that a certificate",
    );
    says(
        &tls("client_ca_files = \"c\", client = [{ name = \"a\", role = \"root\" }]"),
        1,
        "role = \"root\": no such word",
    );
    let twice = "client_ca_files = \"c\", client = [{ name = \"a\", role = \"viewer\" }, { name = \"A\", role = \"viewer\" }]";
    says(&tls(twice), 1, "another client has this name");
}
