package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// answers reads one answer from each of many connections, in one thread: a goroutine
// for each would cost the machine as much as the server that is measured.
type answers struct {
	epoll int
	files map[int32]*os.File // by descriptor
}

// watch takes over the clients' connections.
func watch(clients []*client) (*answers, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	a := &answers{epoll, make(map[int32]*os.File, len(clients))}
	for _, c := range clients {
		// A duplicate, so that Go's own poller lets go of the socket.
		f, err := c.conn.(*net.TCPConn).File() //nolint:forcetypeassert // dial makes no other
		if err != nil {
			return nil, err
		}
		_ = c.conn.Close()
		fd := int32(f.Fd()) //nolint:gosec // descriptors are small
		a.files[fd] = f
		event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: fd}
		if err := syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, int(fd), &event); err != nil {
			return nil, os.NewSyscallError("epoll_ctl", err)
		}
	}
	return a, nil
}

// await returns when every connection has its answer.
func (a *answers) await(ctx context.Context) error {
	events, answer := make([]syscall.EpollEvent, 512), make([]byte, 64<<10)
	for left := len(a.files); left > 0; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := syscall.EpollWait(a.epoll, events, 1000)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, event := range events[:max(n, 0)] {
			n, err := syscall.Read(int(event.Fd), answer)
			if err != nil {
				return os.NewSyscallError("read", err)
			}
			if !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 200 ")) || !bytes.HasSuffix(answer[:n], []byte("}\n")) {
				return fmt.Errorf("answered %q", answer[:n])
			}
			// Nothing else is to be heard of it: closing it now would be work for the server.
			if err := syscall.EpollCtl(a.epoll, syscall.EPOLL_CTL_DEL, int(event.Fd), nil); err != nil {
				return os.NewSyscallError("epoll_ctl", err)
			}
			left--
		}
	}
	return nil
}

func (a *answers) close() {
	for _, f := range a.files {
		_ = f.Close()
	}
	_ = syscall.Close(a.epoll)
}
