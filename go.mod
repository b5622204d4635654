module linecard.example

go 1.26
