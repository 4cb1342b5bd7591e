module bench-go

go 1.24

require github.com/gotempsh/temps/sdks/go v0.0.0

require github.com/coder/websocket v1.8.15 // indirect

replace github.com/gotempsh/temps/sdks/go => ../../../sdks/go
