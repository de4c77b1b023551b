//! What is kept, for whom, and for how long: RFC 9111 sections 2 to 4.2.3.

use crate::cache::sentences::{FRESH, OTHER, SAME, Sentence, asked, kept};

pub(super) const SENTENCES: &[Sentence] = &[
    Sentence {
        section: "2",
        says: "a stored response to GET answers later GETs of its URL",
        script: &[
            asked("GET", FRESH, "200 a")
                .head(&["cache-status: forebay; fwd=uri-miss; fwd-status=200; ttl=60; stored"]),
            kept("GET", "200 a").head(&["age: 0", "cache-status: forebay; hit; ttl="]),
            asked("GET ?query", OTHER, "200 b"),
        ],
    },
    Sentence {
        section: "3",
        says: "the request method is understood by the cache: a POST is no GET",
        script: &[
            asked("POST", "404\nCache-Control: max-age=60\n\na", "404 a")
                .head(&["cache-status: forebay; fwd=method"]),
            asked("GET", OTHER, "200 b"),
        ],
    },
    Sentence {
        section: "3",
        says: "a response without freshness, validator or a cacheable status is of no use",
        script: &[asked("GET", "200\n\na", "200 a"), asked("GET", OTHER, "200 b")],
    },
    Sentence {
        section: "3",
        says: "any final status is stored where the response says for how long it is fresh",
        script: &[asked("GET", "418\nCache-Control: max-age=60\n\nt", "418 t"), kept("GET", "418 t")],
    },
    Sentence {
        section: "3",
        says: "redirects that say nothing are permanent or not stored",
        script: &[
            asked("GET", "302\nLocation: /x\n\n", "302"),
            asked("GET", "302\nLocation: /x\nCache-Control: max-age=60\n\n", "302"),
            kept("GET", "302").head(&["location: /x"]),
        ],
    },
    Sentence {
        section: "3",
        says: "negative answers are stored only where they say for how long",
        script: &[
            asked("GET", "404\n\nno", "404 no"),
            asked("GET", "404\nCache-Control: max-age=60\n\nno", "404 no"),
            kept("GET", "404 no"),
        ],
    },
    Sentence {
        section: "3.1",
        says: "fields of the connection are not stored",
        script: &[
            asked(
                "GET",
                "200\nCache-Control: max-age=60\nConnection: X-Mine\nX-Mine: 1\nKeep-Alive: timeout=5\n\
                 Proxy-Authenticate: Basic\nX-Other: 2\n\na",
                "200 a",
            )
            .head(&["-x-mine", "-keep-alive", "-proxy-authenticate", "x-other: 2"]),
            kept("GET", "200 a").head(&["-x-mine", "-keep-alive", "-proxy-authenticate", "x-other: 2"]),
        ],
    },
    Sentence {
        section: "3.2",
        says: "a 304 replaces the fields it has, and leaves those of the bytes",
        script: &[
            asked(
                "GET",
                "200\nCache-Control: max-age=60\nAge: 100\nETag: \"x\"\nX-A: 1\nX-B: 1\nContent-Type: a/b\n\na",
                "200 a",
            ),
            asked(
                "GET",
                "304\nETag: \"x\"\nCache-Control: max-age=60\nX-A: 2\nContent-Type: c/d\n\n",
                "200 a",
            )
            .head(&["x-a: 2", "x-b: 1", "content-type: a/b"]),
            kept("GET", "200 a").head(&["x-a: 2", "x-b: 1", "content-type: a/b"]),
        ],
    },
    Sentence {
        section: "3.3",
        says: "a part is not stored as the whole",
        script: &[
            asked(
                "GET\nRange: bytes=0-0",
                "206\nContent-Range: bytes 0-0/3\nCache-Control: max-age=60\n\na",
                "206 a",
            )
            .sent(&["range: bytes=0-0"])
            .head(&["cache-status: forebay; fwd=partial"]),
            asked("GET", "200\nCache-Control: max-age=60\n\nabc", "200 abc"),
            kept("GET\nRange: bytes=1-1", "206 b"),
        ],
    },
    Sentence {
        section: "3.5",
        says: "a response to a request with Authorization is not stored by a shared cache",
        script: &[
            asked("GET\nAuthorization: Basic eA==", FRESH, "200 a").sent(&["authorization: Basic eA=="]),
            asked("GET", OTHER, "200 b"),
        ],
    },
    Sentence {
        section: "3.5",
        says: "unless it is public",
        script: &[
            asked("GET\nAuthorization: x", "200\nCache-Control: max-age=60, public\n\na", "200 a"),
            kept("GET", "200 a"),
        ],
    },
    Sentence {
        section: "3.5",
        says: "or must be revalidated",
        script: &[
            asked("GET\nAuthorization: x", "200\nCache-Control: max-age=60, must-revalidate\n\na", "200 a"),
            kept("GET", "200 a"),
        ],
    },
    Sentence {
        section: "3.5",
        says: "or names shared caches",
        script: &[
            asked("GET\nAuthorization: x", "200\nCache-Control: s-maxage=60\n\na", "200 a"),
            kept("GET", "200 a"),
        ],
    },
    Sentence {
        section: "4",
        says: "an answer from the cache has an Age",
        script: &[
            asked("GET", "200\nCache-Control: max-age=60\nAge: 7\n\na", "200 a").head(&["age: 7"]),
            kept("GET", "200 a").head(&["age: 7"]),
        ],
    },
    Sentence {
        section: "4.1",
        says: "a stored response is for requests whose fields in Vary match",
        script: &[
            asked("GET\nAccept: a/b", "200\nCache-Control: max-age=60\nVary: accept\n\na", "200 a"),
            kept("GET\nAccept: a/b", "200 a"),
            asked("GET\nAccept: c/d", "200\nCache-Control: max-age=60\nVary: Accept\n\nb", "200 b")
                .head(&["cache-status: forebay; fwd=vary-miss"]),
            kept("GET\nAccept: a/b", "200 a"),
            kept("GET\nAccept: c/d", "200 b"),
            asked("GET", "200\nCache-Control: max-age=60\nVary: Accept\n\nc", "200 c"),
            kept("GET", "200 c"),
        ],
    },
    Sentence {
        section: "4.1",
        says: "space around commas makes no difference",
        script: &[
            asked("GET\nAccept: a/b, c/d", "200\nCache-Control: max-age=60\nVary: accept\n\na", "200 a"),
            kept("GET\nAccept: a/b,c/d", "200 a"),
        ],
    },
    Sentence {
        section: "4.1",
        says: "Vary: * never matches",
        script: &[
            asked("GET", "200\nCache-Control: max-age=60\nVary: *\n\na", "200 a"),
            asked("GET", OTHER, "200 b"),
        ],
    },
    Sentence {
        section: "4.2",
        says: "Expires tells the end of freshness",
        script: &[
            asked(
                "GET",
                "200\nDate: Sun, 06 Nov 2061 08:49:37 GMT\nExpires: Sun, 06 Nov 2061 08:59:37 GMT\n\na",
                "200 a",
            ),
            kept("GET", "200 a"),
        ],
    },
    Sentence {
        section: "4.2",
        says: "an invalid Expires, as 0, is in the past",
        script: &[asked("GET", "200\nExpires: 0\nETag: \"x\"\n\na", "200 a"), asked("GET", SAME, "200 a")],
    },
    Sentence {
        section: "4.2.1",
        says: "s-maxage goes before max-age, and max-age before Expires",
        script: &[
            asked("GET", "200\nCache-Control: max-age=0, s-maxage=60\nExpires: 0\n\na", "200 a"),
            kept("GET", "200 a"),
            asked("GET ?b", "200\nCache-Control: max-age=60\nExpires: 0\n\na", "200 a"),
            kept("GET ?b", "200 a"),
        ],
    },
    Sentence {
        section: "4.2.1",
        says: "a response with two freshness lifetimes is stale",
        script: &[
            asked("GET", "200\nCache-Control: max-age=60, max-age=600\nETag: \"x\"\n\na", "200 a"),
            asked("GET", SAME, "200 a"),
        ],
    },
    Sentence {
        section: "4.2.2",
        says: "without one, a tenth of the time since the last change is guessed",
        script: &[
            asked(
                "GET",
                "200\nDate: Sun, 06 Nov 2061 08:49:37 GMT\nLast-Modified: Sat, 05 Nov 2061 08:49:37 GMT\n\na",
                "200 a",
            )
            .head(&["ttl=8640"]),
            kept("GET", "200 a"),
            asked(
                "GET ?b",
                "200\nAge: 8641\nDate: Sun, 06 Nov 2061 08:49:37 GMT\nLast-Modified: Sat, 05 Nov 2061 08:49:37 GMT\n\na",
                "200 a",
            ),
            asked("GET ?b", OTHER, "200 b"),
        ],
    },
    Sentence {
        section: "4.2.3",
        says: "the age is what Date tells where that is more than Age",
        script: &[
            asked(
                "GET",
                "200\nDate: Sun, 06 Nov 1994 08:49:37 GMT\nAge: 1\nCache-Control: max-age=60\nETag: \"x\"\n\na",
                "200 a",
            ),
            asked("GET", SAME, "200 a").sent(&["if-none-match: \"x\""]),
        ],
    },
];
