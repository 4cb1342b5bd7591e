// A plugin that tries to reach what it may and what it may not, with net/http as it is, and writes down what it found. With
// `--control` it does the same outside of any sandbox, where everything can be reached.
//
// Where things are stands in the last line of the executable, behind the program.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

const (
	patience = 5 * time.Second
	public   = "45.90.28.10"
	public6  = "2a0b:9000::10"
)

var places struct {
	Port             int
	Database, Socket string
}

// turning is the address of a host whose name leads elsewhere when it is asked for again; the control has one of its own.
func turning() string {
	who := "go-probe"
	if len(os.Args) > 1 && os.Args[1] == "--control" {
		who = "go-control"
	}
	return "https://" + who + ".turns.example.com/"
}

type found struct {
	Reached bool   `json:"reached"`
	Said    string `json:"said"`
}

// get asks with the default transport, which follows HTTPS_PROXY, or with one that knows no proxy.
func get(address string, proxy, checked bool) (string, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: !checked}
	if !proxy {
		transport.Proxy = nil
	}
	client := http.Client{Transport: transport, Timeout: patience}
	answer, err := client.Get(address)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

func plainGet(address string) (string, error) {
	answer, err := (&http.Client{Timeout: patience}).Get(address)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

func dial(dialer net.Dialer, network, address string) (string, error) {
	dialer.Timeout = patience
	connection, err := dialer.Dial(network, address)
	if err != nil {
		return "", err
	}
	return "connected", connection.Close()
}

func helloForAnother() (string, error) {
	settings := &tls.Config{ServerName: "other.example.com", InsecureSkipVerify: true}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: settings}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	connection, err := dialer.DialContext(ctx, "tcp", "hooks.slack.com:443")
	if err != nil {
		return "", err
	}
	return "connected", connection.Close()
}

func udp() (string, error) {
	connection, err := net.DialTimeout("udp", public+":5353", patience)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(patience))
	if _, err := connection.Write([]byte("x")); err != nil {
		return "", err
	}
	answer := make([]byte, 10)
	length, err := connection.Read(answer)
	return string(answer[:length]), err
}

// proxied is what the proxy says that HTTPS_PROXY names; the control has none and is not asked.
func proxied(where string) (string, error) {
	request, _ := http.NewRequest(http.MethodGet, where, nil)
	proxy, err := http.ProxyFromEnvironment(request)
	if err != nil || proxy == nil {
		return "", errors.Join(err, errors.New("no proxy is set"))
	}
	connection, err := net.DialTimeout("tcp", proxy.Host, patience)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(patience))
	target, _ := url.Parse(where)
	fmt.Fprintf(connection, "CONNECT %s:443 HTTP/1.1\r\nHost: %s\r\n\r\n", target.Host, target.Host)
	answer := make([]byte, 1000)
	length, err := connection.Read(answer)
	return string(answer[:length]), err
}

func ways() []struct {
	name string
	try  func() (string, error)
} {
	of := func(network, address string) func() (string, error) {
		return func() (string, error) { return dial(net.Dialer{}, network, address) }
	}
	fetch := func(address string, proxy, checked bool) func() (string, error) {
		return func() (string, error) { return get(address, proxy, checked) }
	}
	host := fmt.Sprintf("127.0.0.1:%d", places.Port)
	return []struct {
		name string
		try  func() (string, error)
	}{
		{"allowed", fetch("https://hooks.slack.com/", false, true)},
		{"allowed_by_default", func() (string, error) { return plainGet("https://hooks.slack.com/") }},
		{"allowed_before_it_turned", fetch(turning(), false, true)},
		{"turned_to_loopback", fetch(turning(), false, false)},
		{"turned_to_loopback_by_default", fetch(turning(), true, false)},
		{"another_name", fetch("https://other.example.com/", false, true)},
		{"another_name_by_default", func() (string, error) { return plainGet("https://other.example.com/") }},
		{"name_of_loopback", fetch("https://inside.example.com/", false, false)},
		{"name_of_both", fetch("https://both.example.com/", false, false)},
		{"literal", fetch("https://"+public+"/", false, false)},
		{"literal_by_default", fetch("https://"+public+"/", true, false)},
		{"plain_http_at_443", fetch("http://hooks.slack.com:443/", false, true)},
		{"hello_for_another", helloForAnother},
		{"another_port", of("tcp", "hooks.slack.com:8443")},
		{"ipv6", of("tcp", "["+public6+"]:443")},
		{"udp", udp},
		{"host_port", of("tcp", host)},
		{"host_port_by_public_address", of("tcp", public+":443")},
		{"host_port_by_mptcp", func() (string, error) {
			var dialer net.Dialer
			dialer.SetMultipathTCP(true)
			return dial(dialer, "tcp", host)
		}},
		{"database_port", of("tcp", "127.0.0.1:5432")},
		{"database_file", func() (string, error) {
			text, err := os.ReadFile(places.Database)
			return string(text[:min(4, len(text))]), err
		}},
		{"unix_socket", of("unix", places.Socket)},
		{"abstract_socket", of("unix", "@temps-outside")},
	}
}

func write(path string, what any) {
	text, _ := json.Marshal(what)
	if err := errors.Join(os.WriteFile(path+".new", text, 0o644), os.Rename(path+".new", path)); err != nil {
		panic(err)
	}
}

func tryAll(result string) {
	all := map[string]found{}
	for _, way := range ways() {
		said, err := way.try()
		if err != nil {
			said = err.Error()
		}
		all[way.name] = found{err == nil, said}
	}
	write(result, all)
}

// hold keeps a connection open until it ends, and tells then whether another one can be made.
func hold(data string) {
	said := map[string]string{}
	answer, err := http.Get("https://hooks.slack.com/hold/go-probe")
	if err == nil {
		_, err = io.ReadAll(answer.Body)
	}
	said["held"] = fmt.Sprint(err)
	_, err = get("https://hooks.slack.com/", false, true)
	said["again"] = fmt.Sprint(err)
	said["proxy"], _ = proxied("https://hooks.slack.com")
	write(filepath.Join(data, "held.json"), said)
}

func main() {
	executable, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = json.Unmarshal(executable[bytes.LastIndexByte(executable, '\n'):], &places)
	}
	if err != nil {
		panic(err)
	}
	args := map[string]string{}
	for at := 1; at+1 < len(os.Args); at += 2 {
		args[os.Args[at]] = os.Args[at+1]
	}
	if result := args["--control"]; result != "" {
		tryAll(result)
		return
	}
	fmt.Println(`{"type":"manifest","name":"go-probe","version":"1.0.0","events":[],"egress":["hooks.slack.com","inside.example.com","both.example.com","*.turns.example.com"]}`)
	listener, err := net.Listen("unix", args["--socket-path"])
	if err != nil {
		panic(err)
	}
	fmt.Println(`{"type":"ready","ready":true,"has_ui":false}`)
	go func() {
		tryAll(filepath.Join(args["--data-dir"], "result.json"))
		hold(args["--data-dir"])
	}()
	handler := http.NewServeMux()
	handler.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	panic(http.Serve(listener, handler))
}
