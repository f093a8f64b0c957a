module github.com/poolkeeper/poolkeeper/examples

go 1.26

replace github.com/poolkeeper/poolkeeper => ../
