//! What is stale, how its server is asked, and what becomes invalid: RFC 9111 sections 4.2.4 to 4.4.

use crate::cache::sentences::{ERROR, FRESH, GONE, OTHER, SAME, STALE, Sentence, asked, kept};

pub(super) const SENTENCES: &[Sentence] = &[
    Sentence {
        section: "4.2.4",
        says: "a stale response is given while its server cannot be reached",
        script: &[
            asked("GET", STALE, "200 a"),
            asked("GET", GONE, "200 a").head(&["age: 100", "cache-status: forebay; fwd=stale; ttl=-40"]),
        ],
    },
    Sentence {
        section: "4.2.4",
        says: "but not where the response forbids it, nor for an error that it says nothing of",
        script: &[
            asked(
                "GET",
                "200\nCache-Control: max-age=60, must-revalidate\nAge: 100\nETag: \"x\"\n\na",
                "200 a",
            ),
            asked("GET", GONE, "504"),
            asked("GET ?b", STALE, "200 a"),
            asked("GET ?b", ERROR, "503 down"),
        ],
    },
    Sentence {
        section: "4.3.1",
        says: "a stale response is asked about by its validators",
        script: &[
            asked(
                "GET",
                "200\nCache-Control: max-age=60\nAge: 100\nETag: \"x\"\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\n\na",
                "200 a",
            ),
            asked("GET", SAME, "200 a")
                .sent(&["if-none-match: \"x\"", "if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT"])
                .head(&["cache-status: forebay; fwd=stale; fwd-status=304"]),
            kept("GET", "200 a"),
        ],
    },
    Sentence {
        section: "4.3.2",
        says: "the cache answers If-None-Match and If-Modified-Since by what it has",
        script: &[
            asked(
                "GET",
                "200\nCache-Control: max-age=60\nETag: \"x,y\"\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\n\na",
                "200 a",
            ),
            kept("GET\nIf-None-Match: \"a\", W/\"x,y\"", "304").head(&["etag: \"x,y\"", "age: 0"]),
            kept("GET\nIf-None-Match: \"a\"", "200 a"),
            kept("GET\nIf-None-Match: *", "304"),
            kept("GET\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT", "304"),
            kept("GET\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT", "200 a"),
            kept("GET\nIf-None-Match: \"a\"\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT", "200 a"),
        ],
    },
    Sentence {
        section: "4.3.2",
        says: "If-Match and If-Unmodified-Since are for the server",
        script: &[
            asked("GET", "200\nCache-Control: max-age=60\nETag: \"x\"\n\na", "200 a"),
            asked("GET\nIf-Match: \"y\"", "412\n\nno", "412 no").sent(&["if-match: \"y\""]),
            asked("GET\nIf-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT", "412\n\nno", "412 no"),
            kept("GET", "200 a"),
        ],
    },
    Sentence {
        section: "4.3.2",
        says: "an agent's condition is answered by what a question of the cache brings",
        script: &[
            asked("GET\nIf-None-Match: \"x\"", "200\nCache-Control: max-age=60\nETag: \"x\"\n\na", "304")
                .sent(&["-if-none-match"]),
            kept("GET", "200 a"),
        ],
    },
    Sentence {
        section: "4.3.3",
        says: "a full response replaces the stored one",
        script: &[
            asked("GET", STALE, "200 a"),
            asked("GET", "200\nCache-Control: max-age=60\nETag: \"y\"\n\nb", "200 b")
                .sent(&["if-none-match: \"x\""]),
            kept("GET", "200 b").head(&["etag: \"y\""]),
        ],
    },
    Sentence {
        section: "4.3.3",
        says: "a full response that may not be stored leaves nothing stored",
        script: &[
            asked("GET", STALE, "200 a"),
            asked("GET", "200\nCache-Control: no-store\n\nb", "200 b"),
            asked("GET", OTHER, "200 b").sent(&["-if-none-match"]),
        ],
    },
    Sentence {
        section: "4.3.3",
        says: "a server error passes, and the stored response stays",
        script: &[
            asked("GET", STALE, "200 a"),
            asked("GET", ERROR, "503 down"),
            asked("GET", SAME, "200 a").sent(&["if-none-match: \"x\""]),
        ],
    },
    Sentence {
        section: "4.3.5",
        says: "a HEAD's 200 about the same state freshens a GET's",
        script: &[
            asked("GET", STALE, "200 a"),
            asked("HEAD", "200\nETag: \"x\"\nCache-Control: max-age=60\nContent-Length: 1\n\n", "200"),
            kept("GET", "200 a"),
        ],
    },
    Sentence {
        section: "4.3.5",
        says: "one about another makes it invalid",
        script: &[
            asked("GET", STALE, "200 a"),
            asked("HEAD", "200\nETag: \"x\"\nContent-Length: 2\n\n", "200"),
            asked("GET", OTHER, "200 b").sent(&["-if-none-match"]),
        ],
    },
    Sentence {
        section: "9110 9.3.2",
        says: "a stored GET answers a HEAD, with its length and without its bytes",
        script: &[
            asked("GET", FRESH, "200 a"),
            kept("HEAD", "200").head(&["content-length: 1", "cache-control: max-age=60"]),
        ],
    },
    Sentence {
        section: "4.4",
        says: "an unsafe method that succeeds invalidates its URL",
        script: &[
            asked("GET", FRESH, "200 a"),
            asked("POST", "200\n\ndone", "200 done"),
            asked("GET", OTHER, "200 b").sent(&["-if-none-match"]),
        ],
    },
    Sentence {
        section: "4.4",
        says: "so does a method that the cache does not know",
        script: &[
            asked("GET", FRESH, "200 a"),
            asked("FROB", "204\n\n", "204"),
            asked("GET", OTHER, "200 b"),
        ],
    },
    Sentence {
        section: "4.4",
        says: "one that fails does not, nor does a safe one",
        script: &[
            asked("GET", FRESH, "200 a"),
            asked("DELETE", "403\n\nno", "403 no"),
            asked("OPTIONS", "200\n\n", "200"),
            kept("GET", "200 a"),
        ],
    },
    Sentence {
        section: "4.4",
        says: "Location and Content-Location are invalidated with it, where they are of the same origin",
        script: &[
            asked("GET /l", FRESH, "200 a"),
            asked("GET /c", FRESH, "200 a"),
            asked("GET /o", FRESH, "200 a"),
            asked("PUT /p", "201\nLocation: l\nContent-Location: ./c\nX: http://127.0.0.1/o\n\n", "201"),
            asked("GET /l", OTHER, "200 b"),
            asked("GET /c", OTHER, "200 b"),
            kept("GET /o", "200 a"),
        ],
    },
];
