//! What agents and servers say to caches: RFC 9111 sections 5 and 7, RFC 5861; and ranges.

use crate::cache::sentences::{ERROR, FRESH, GONE, OTHER, SAME, STALE, Sentence, asked, kept};

pub(super) const SENTENCES: &[Sentence] = &[
    Sentence {
        section: "5.2",
        says: "directives have no case, and arguments may be quoted",
        script: &[asked("GET", "200\ncache-control: MAX-AGE=\"60\"\n\na", "200 a"), kept("GET", "200 a")],
    },
    Sentence {
        section: "5.2.1.1",
        says: "max-age: the agent takes no response that is older",
        script: &[
            asked("GET", "200\nCache-Control: max-age=60\nAge: 30\nETag: \"x\"\n\na", "200 a"),
            kept("GET\nCache-Control: max-age=50", "200 a"),
            asked("GET\nCache-Control: max-age=20", SAME, "200 a")
                .sent(&["if-none-match: \"x\"", "cache-control: max-age=20"])
                .head(&["cache-status: forebay; fwd=request"]),
        ],
    },
    Sentence {
        section: "5.2.1.2",
        says: "max-stale: the agent takes one that is stale by no more",
        script: &[
            asked("GET", STALE, "200 a"),
            kept("GET\nCache-Control: max-stale=50", "200 a").head(&["age: 100", "hit; ttl=-40"]),
            kept("GET\nCache-Control: max-stale", "200 a"),
            asked("GET\nCache-Control: max-stale=20", SAME, "200 a"),
        ],
    },
    Sentence {
        section: "5.2.1.3",
        says: "min-fresh: the agent takes one that stays fresh for so long",
        script: &[
            asked("GET", "200\nCache-Control: max-age=60\nAge: 30\nETag: \"x\"\n\na", "200 a"),
            kept("GET\nCache-Control: min-fresh=20", "200 a"),
            asked("GET\nCache-Control: min-fresh=40", SAME, "200 a"),
        ],
    },
    Sentence {
        section: "5.2.1.4",
        says: "no-cache: no stored response without a question",
        script: &[
            asked("GET", "200\nCache-Control: max-age=60\nETag: \"x\"\n\na", "200 a"),
            asked("GET\nCache-Control: no-cache", SAME, "200 a").sent(&["if-none-match: \"x\""]),
            asked("GET\nCache-Control: no-cache", GONE, "504"),
        ],
    },
    Sentence {
        section: "5.2.1.5",
        says: "no-store: the response is not stored",
        script: &[
            asked("GET\nCache-Control: no-store", FRESH, "200 a"),
            asked("GET", OTHER, "200 b"),
            kept("GET\nCache-Control: no-store", "200 b"),
        ],
    },
    Sentence {
        section: "5.2.1.7",
        says: "only-if-cached: a stored response or 504",
        script: &[
            kept("GET\nCache-Control: only-if-cached", "504"),
            asked("GET", FRESH, "200 a"),
            kept("GET\nCache-Control: only-if-cached", "200 a"),
            kept("HEAD\nCache-Control: only-if-cached", "200"),
            kept("GET\nCache-Control: only-if-cached, max-age=0, min-fresh=1000", "504"),
        ],
    },
    Sentence {
        section: "5.2.2.2",
        says: "must-revalidate: never stale, whatever the agent takes",
        script: &[
            asked(
                "GET",
                "200\nCache-Control: max-age=60, must-revalidate\nAge: 100\nETag: \"x\"\n\na",
                "200 a",
            ),
            asked("GET\nCache-Control: max-stale", SAME, "200 a"),
        ],
    },
    Sentence {
        section: "5.2.2.3",
        says: "must-understand: no-store is for caches that do not know the status",
        script: &[
            asked("GET", "200\nCache-Control: must-understand, no-store, max-age=60\n\na", "200 a"),
            kept("GET", "200 a"),
            asked("GET ?b", "499\nCache-Control: must-understand, max-age=60\n\na", "499 a"),
            asked("GET ?b", OTHER, "200 b"),
        ],
    },
    Sentence {
        section: "5.2.2.4",
        says: "no-cache: stored, and asked about each time; with fields, too",
        script: &[
            asked("GET", "200\nCache-Control: no-cache, max-age=60\nETag: \"x\"\n\na", "200 a"),
            asked(
                "GET\nCache-Control: max-stale",
                "304\nCache-Control: no-cache=\"set-cookie\"\n\n",
                "200 a",
            ),
            asked("GET", "304\nCache-Control: no-cache\n\n", "200 a").sent(&["if-none-match: \"x\""]),
        ],
    },
    Sentence {
        section: "5.2.2.5",
        says: "no-store: not stored",
        script: &[
            asked("GET", "200\nCache-Control: No-Store, max-age=60\n\na", "200 a"),
            asked("GET", OTHER, "200 b"),
        ],
    },
    Sentence {
        section: "5.2.2.7",
        says: "private: not stored in a shared cache, for a field neither",
        script: &[
            asked("GET", "200\nCache-Control: private, max-age=60\n\na", "200 a"),
            asked("GET", "200\nCache-Control: private=\"x-a\", max-age=60\n\na", "200 a"),
            asked("GET", OTHER, "200 b"),
        ],
    },
    Sentence {
        section: "5.2.2.8",
        says: "proxy-revalidate: fresh it is given, stale it is asked about",
        script: &[
            asked("GET", "200\nCache-Control: max-age=60, proxy-revalidate\n\na", "200 a"),
            kept("GET", "200 a"),
            asked(
                "GET ?b",
                "200\nCache-Control: max-age=60, proxy-revalidate\nAge: 100\nETag: \"x\"\n\na",
                "200 a",
            ),
            asked("GET ?b\nCache-Control: max-stale", SAME, "200 a"),
        ],
    },
    Sentence {
        section: "5.2.2.9",
        says: "public: a status that is not cacheable by default is stored with a guess",
        script: &[
            asked(
                "GET",
                "403\nCache-Control: public\nDate: Sun, 06 Nov 2061 08:49:37 GMT\nLast-Modified: Sat, 05 Nov 2061 08:49:37 GMT\n\nno",
                "403 no",
            ),
            kept("GET", "403 no"),
        ],
    },
    Sentence {
        section: "5.2.2.10",
        says: "s-maxage: what has become stale is asked about",
        script: &[
            asked(
                "GET",
                "200\nCache-Control: s-maxage=60, max-age=1000\nAge: 100\nETag: \"x\"\n\na",
                "200 a",
            ),
            asked("GET\nCache-Control: max-stale", SAME, "200 a"),
        ],
    },
    Sentence {
        section: "5.3",
        says: "Expires is compared with the server's Date, not with this clock",
        script: &[
            asked(
                "GET",
                "200\nDate: Sun, 06 Nov 2061 08:49:37 GMT\nExpires: Sun, 06 Nov 2061 08:49:36 GMT\nETag: \"x\"\n\na",
                "200 a",
            ),
            asked("GET", SAME, "200 a"),
        ],
    },
    Sentence {
        section: "5.4",
        says: "Pragma: no-cache counts where there is no Cache-Control",
        script: &[
            asked("GET", "200\nCache-Control: max-age=60\nETag: \"x\"\n\na", "200 a"),
            asked("GET\nPragma: no-cache", SAME, "200 a"),
            kept("GET\nPragma: no-cache\nCache-Control: max-age=1000", "200 a"),
        ],
    },
    Sentence {
        section: "5.5",
        says: "Warning is not made",
        script: &[asked("GET", STALE, "200 a"), asked("GET", GONE, "200 a").head(&["-warning"])],
    },
    Sentence {
        section: "7.3",
        says: "Set-Cookie passes, and is stored only where its server speaks of shared caches",
        script: &[
            asked("GET", "200\nSet-Cookie: a=1\nCache-Control: max-age=60\n\na", "200 a")
                .head(&["set-cookie: a=1"]),
            asked("GET", "200\nSet-Cookie: a=2\nCache-Control: max-age=60, public\n\na", "200 a"),
            kept("GET", "200 a").head(&["set-cookie: a=2"]),
        ],
    },
    Sentence {
        section: "5861 4",
        says: "stale-if-error: a stale response stands for a server's error, for so long",
        script: &[
            asked("GET", "200\nCache-Control: max-age=60, stale-if-error=50\nAge: 100\n\na", "200 a"),
            asked("GET", ERROR, "200 a").head(&["cache-status: forebay; fwd=stale"]),
            asked("GET", GONE, "200 a"),
            asked("GET", "404\n\nno", "404 no"),
            asked("GET ?b", "200\nCache-Control: max-age=60, stale-if-error=10\nAge: 100\n\na", "200 a"),
            asked("GET ?b", ERROR, "503 down"),
            asked("GET ?b", GONE, "504"),
        ],
    },
    Sentence {
        section: "5861 4",
        says: "stale-if-error in a request does so for that request",
        script: &[
            asked("GET", STALE, "200 a"),
            asked("GET\nCache-Control: stale-if-error=50", ERROR, "200 a"),
            asked("GET\nCache-Control: stale-if-error=10", ERROR, "503 down"),
        ],
    },
    Sentence {
        section: "9110 15.2",
        says: "a proxy forwards 1xx responses, whatever their status, unless it asked for them itself",
        script: &[
            asked("GET", "103 Link: <a>\n102 X-A: b\n200\nCache-Control: max-age=60\n\na", "103 102 200 a"),
            kept("GET", "200 a"),
            asked("POST", "103 Link: <a>\n200\n\nb", "103 200 b"),
            asked("HEAD ?b", "103 Link: <a>\n200\n\n", "103 200"),
        ],
    },
    Sentence {
        section: "9110 14.2",
        says: "ranges are taken of a stored 200",
        script: &[
            asked(
                "GET",
                "200\nCache-Control: max-age=60\nETag: \"x\"\nContent-Type: a/b\n\nabcdef",
                "200 abcdef",
            ),
            kept("GET\nRange: bytes=1-2", "206 bc")
                .head(&["content-range: bytes 1-2/6", "content-type: a/b"]),
            kept("GET\nRange: bytes=-2", "206 ef"),
            kept("GET\nRange: bytes=9-", "416"),
            kept("GET\nRange: bytes=1-2\nIf-Range: \"x\"", "206 bc"),
            kept("GET\nRange: bytes=1-2\nIf-Range: \"y\"", "200 abcdef"),
            kept("GET\nRange: bytes=1-2\nIf-None-Match: \"x\"", "304"),
        ],
    },
];
