package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"linecard.example/internal/stanza"
	"linecard.example/internal/wire"
)

// relayCredential answers a query for credentials, here, as mediaGrant does: an HMAC, half a microsecond, under the limit of look-ups. Relays verify them
// without asking anybody, and bound what an account does with them.
func (l *loop) relayCredential(s *session, q *stanza.Query) {
	if len(l.g.relayURLs) == 0 {
		l.queryError(s, q.ID, stanza.ReasonForbidden, 0)
		return
	}
	keys := l.g.tickets.Load()
	if keys == nil {
		l.queryError(s, q.ID, stanza.ReasonUnavailable, jitter(l.g.cfg.RetryAfter.D()))
		return
	}
	expires := l.g.clock().Add(l.g.cfg.RelayLife.D()).Unix()
	name := wire.AppendRelayName(nil, s.account, expires)
	r := stanza.Result{
		ID: q.ID, Expiry: expires * 1000, Username: name, Password: keys.relay.AppendPassword(nil, string(name)), URLs: l.g.relayURLs,
	}
	l.scratch = r.Append(l.scratch[:0])
	l.push(s, l.scratch)
	l.g.metrics.relays.Inc()
}

// checkRelayURLs says what is wrong with the URLs of relays. None is good.
func checkRelayURLs(urls []string) (faults []error) {
	if len(urls) > stanza.MaxRelayURLs {
		faults = append(faults, fmt.Errorf("want at most %d", stanza.MaxRelayURLs))
	}
	for i, u := range urls {
		err := checkRelayURL(u)
		if slices.Contains(urls[:i], u) {
			err = errors.New("is there twice")
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%q: %w", u, err))
		}
	}
	return faults
}

// checkRelayURL says what is wrong with text as a URI of RFC 7065.
func checkRelayURL(text string) error {
	scheme, rest, _ := strings.Cut(text, ":")
	at, query, asked := strings.Cut(rest, "?")
	host, port, err := splitRelayAddress(at)
	switch {
	case len(text) > stanza.MaxRelayURL:
		return errors.New("is too long")
	case scheme != "turn" && scheme != "turns":
		return errors.New("want turn:HOST:PORT or turns:HOST:PORT, with ?transport=udp or ?transport=tcp if need be")
	case asked && query != "transport=udp" && query != "transport=tcp":
		return errors.New("want nothing but transport=udp or transport=tcp behind the question mark")
	case err != nil:
		return err
	case port == "0":
		return errors.New("port 0 is nowhere")
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		return errors.New("is nowhere: want the address that clients reach it at")
	}
	return nil
}

// splitRelayAddress takes HOST or HOST:PORT apart; an IPv6 address stands in brackets.
func splitRelayAddress(at string) (host, port string, err error) {
	host, port, ported := strings.Cut(at, ":")
	if v6, behind, ok := strings.Cut(at, "]"); ok {
		host = strings.TrimPrefix(v6, "[")
		if ip, err := netip.ParseAddr(host); v6 == host || err != nil || !ip.Is6() || ip.Zone() != "" {
			return "", "", errors.New("want an IPv6 address between the brackets")
		}
		if behind != "" && behind[0] != ':' {
			return "", "", errors.New("want nothing but a port behind the brackets")
		}
		port, ported = strings.TrimPrefix(behind, ":"), behind != ""
	} else if host == "" || strings.Trim(host, hostBytes) != "" {
		return "", "", errors.New("want a host name or an IP address, an IPv6 address in brackets")
	}
	if n, err := strconv.ParseUint(port, 10, 16); ported && (err != nil || strconv.FormatUint(n, 10) != port) {
		return "", "", errors.New("want a port of 1 to 65535")
	}
	return host, port, nil
}

// hostBytes are what names and IPv4 addresses are made of.
const hostBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"
