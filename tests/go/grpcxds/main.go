// Command grpcxds calls a mesh service as a proxyless client: gRPC resolves xds:/// targets itself.
//
// Each line of standard input is a JSON object {"target", "method", "metadata": {…}, "n", "deadline"};
// each gets one line {"code", "details", "by": {backend: answers}}. Messages are JSON text as they are.
// A target keeps its channel.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	_ "google.golang.org/grpc/xds"
)

type raw struct{}

func (raw) Name() string                       { return "raw" }
func (raw) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = append([]byte(nil), data...); return nil }

type request struct {
	Target, Method string
	Metadata       map[string]string
	N              int
	Deadline       float64
}

type answer struct {
	Code    int            `json:"code"`
	Details string         `json:"details"`
	By      map[string]int `json:"by"`
}

func call(conn *grpc.ClientConn, r request) answer {
	a := answer{By: map[string]int{}}
	for i := 0; i < r.N || i == 0; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.Deadline*float64(time.Second)))
		in, out, head := []byte("{}"), []byte{}, metadata.MD{}
		err := conn.Invoke(metadata.NewOutgoingContext(ctx, metadata.New(r.Metadata)), r.Method, &in, &out,
			grpc.ForceCodec(raw{}), grpc.Header(&head))
		cancel()
		if s := status.Convert(err); s.Code() != 0 {
			a.Code, a.Details = int(s.Code()), s.Message()
			return a
		}
		for _, name := range head.Get("x-backend") {
			a.By[name]++
		}
	}
	return a
}

func main() {
	conns := map[string]*grpc.ClientConn{}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		r := request{Deadline: 20}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			panic(err)
		}
		if conns[r.Target] == nil {
			c, err := grpc.NewClient(r.Target, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				panic(err)
			}
			conns[r.Target] = c
		}
		out, _ := json.Marshal(call(conns[r.Target], r))
		fmt.Println(string(out))
	}
}
