module attache

go 1.26.0
