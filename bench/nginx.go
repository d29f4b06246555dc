package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// nginx is set up as a reverse proxy that adds one field: what C does with less
// to do. It makes no certificate, asks for no token, and writes no log. It speaks
// HTTP/1.1 to the origin, also where clients speak HTTP/2 to it.
var nginxConfig = template.Must(template.New("").Parse(`
daemon off;
worker_processes auto;
worker_rlimit_nofile 20000;
pid {{.Dir}}/pid;
error_log {{.Dir}}/log warn;
events { worker_connections 9000; }
http {
  access_log off;
  client_body_temp_path {{.Dir}}/body;
  proxy_temp_path {{.Dir}}/proxy;
  fastcgi_temp_path {{.Dir}}/fastcgi;
  uwsgi_temp_path {{.Dir}}/uwsgi;
  scgi_temp_path {{.Dir}}/scgi;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  ssl_certificate {{.Dir}}/server.pem;
  ssl_certificate_key {{.Dir}}/server.key;
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_cache shared:sessions:10m;
  upstream origin {
    server 127.0.0.1:{{.Origin.H1}};
    keepalive 512;
    keepalive_requests 1000000000;
  }
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  server {
    listen 127.0.0.1:{{.Own.H1}} ssl backlog=4096;
    listen 127.0.0.1:{{.Own.H2}} ssl http2 backlog=4096;
    location / {
      proxy_pass https://origin;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
      proxy_ssl_server_name on;
      proxy_ssl_name {{.Host}};
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {{.CA}};
      proxy_ssl_protocols TLSv1.2 TLSv1.3;
      proxy_set_header Host {{.Host}}:{{.Origin.H1}};
      proxy_set_header Authorization "{{.Credential}}";
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
    }
  }
}
`))

func startNginx(_ context.Context, b *bed) (*proxy, error) {
	dir, err := os.MkdirTemp(b.dir, "nginx-")
	if err != nil {
		return nil, err
	}
	var own addresses
	if own.H1, err = freePort(); err != nil {
		return nil, err
	}
	if own.H2, err = freePort(); err != nil {
		return nil, err
	}
	var config strings.Builder
	if err := nginxConfig.Execute(&config, map[string]any{
		"Dir": dir, "Own": own, "Origin": b.ports, "Host": host, "CA": b.caFile(), "Credential": credential,
	}); err != nil {
		return nil, err
	}
	if err := writeFiles(dir, map[string]string{
		"nginx.conf": config.String(), "server.pem": b.server.Certificate, "server.key": b.server.Key,
	}); err != nil {
		return nil, err
	}
	nginx, pid, err := keep(program{
		Path: find("nginx"), Args: []string{"-c", filepath.Join(dir, "nginx.conf"), "-e", filepath.Join(dir, "log")},
		Dir: dir, Log: filepath.Join(dir, "log"),
	}, func() error { return listens(own.H2) })
	if err != nil {
		return nil, err
	}
	r := b.route()
	r.Ports = own
	return &proxy{route: r, pid: pid, stop: nginx.end}, nil
}

// freePort is one that nobody listens on, for programs that cannot be given port
// 0.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return portOf(ln), ln.Close()
}

// listens tells whether somebody listens on a port.
func listens(port int) error {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err == nil {
		_ = conn.Close()
	}
	return err
}
