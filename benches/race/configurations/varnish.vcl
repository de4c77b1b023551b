# Everything in memory (malloc,2g). Each request is logged into shared memory, as always; nothing reads it there.
vcl 4.1;

backend origin {
    .host = "127.0.0.1";
    .port = "@UPSTREAM_PORT@";
}

sub vcl_backend_response {
    set beresp.ttl = 1d;
}
