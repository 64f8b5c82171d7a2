package jobs_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"rollcall/internal/jobs"
)

func TestSecretIsNeverShown(t *testing.T) {
	t.Parallel()
	const text = "hunter2"
	holder := struct{ Password jobs.Secret }{jobs.NewSecret(text)}

	encoded, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("settings", "config", holder, "password", holder.Password)

	for _, shown := range []string{
		fmt.Sprint(holder), fmt.Sprintf("%v %+v %#v", holder, holder, holder), fmt.Sprintf("%s %q %x", holder.Password, holder.Password, holder.Password),
		fmt.Sprint(&holder), fmt.Errorf("connect with %v", holder.Password).Error(), string(encoded), log.String(),
	} {
		if strings.Contains(shown, text) || strings.Contains(shown, fmt.Sprintf("%x", text)) {
			t.Errorf("the secret shows in %q", shown)
		}
		if !strings.Contains(shown, "***") && !strings.Contains(shown, "2a2a2a") {
			t.Errorf("nothing shows that a secret is set in %q", shown)
		}
	}
	if holder.Password.Reveal() != text {
		t.Errorf("Reveal() = %q, want %q", holder.Password.Reveal(), text)
	}
}

func TestSecretReadsText(t *testing.T) {
	t.Parallel()
	var s jobs.Secret
	if !s.IsZero() || s.String() != "" {
		t.Errorf("the zero secret prints %q, want nothing", s)
	}
	if err := s.UnmarshalText([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if s.Reveal() != "abc" || s.IsZero() {
		t.Errorf("Reveal() = %q after UnmarshalText, want abc", s.Reveal())
	}
}
