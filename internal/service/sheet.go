package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"rollcall/internal/jobs"
)

// sheet turns the entries of a reply into replies, one for each job of the call.
type sheet struct {
	jobs     []*jobs.Job
	retryMax time.Duration
	secrets  secrets
	// masked are the spellings of the secrets, nil until an entry has a text.
	masked  []string
	replies []jobs.Reply
	listed  []bool
	// byID maps ids to places in the call, to shared where several jobs have one; byUID maps
	// uids, nil until one is asked for.
	byID, byUID map[string]int
	// unclear counts the entries under a name that is that of several jobs.
	unclear map[string]int
}

// shared is the place of an id that several jobs have.
const shared = -1

func newSheet(list []*jobs.Job, retryMax time.Duration, known secrets) *sheet {
	s := &sheet{
		jobs: list, retryMax: retryMax, secrets: known, replies: make([]jobs.Reply, len(list)), listed: make([]bool, len(list)),
		byID: make(map[string]int, len(list)),
	}
	for i, j := range list {
		if _, taken := s.byID[j.ID]; taken {
			i = shared
		}
		s.byID[j.ID] = i
	}
	return s
}

// fill reads the entries of a dialect. An error shows nothing of the reply but ids that the
// call had: it ends up in logs and events, and a reply may hold anything.
func (s *sheet) fill(dialect string, entries []byte) (err error) {
	read := s.result
	switch dialect {
	case dialectFailures:
		read = s.failure
	case dialectStatuses:
		read = s.status
	}
	n := 0
	jobs.EachElement(entries, func(entry []byte) bool {
		if n == len(s.jobs) {
			err = fmt.Errorf("the reply lists more jobs than the call had: the call had %d", len(s.jobs))
			return false
		}
		n++
		if err = read(entry); err != nil {
			err = fmt.Errorf("entry %d of the reply: %w", n, withoutValue(err))
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	if dialect == dialectFailures {
		s.restIsOK()
	}
	s.comeBackAlone()
	return nil
}

// find returns the reply of the job that an entry is about, nil where that is unclear.
func (s *sheet) find(name string) (*jobs.Reply, error) {
	i, known := s.byID[name]
	if u, isUID := s.uid(name); isUID && (!known || u != i) {
		if known {
			i = shared
		} else {
			i, known = u, true
		}
	}
	switch {
	case !known:
		return nil, errors.New("it names a job that was not in the call")
	case i == shared:
		return nil, s.mention(name)
	case s.listed[i]:
		return nil, fmt.Errorf("the reply lists a job twice: id %q", jobs.Clip(name, 80))
	}
	s.listed[i] = true
	return &s.replies[i], nil
}

// uid looks a name up among the uids. All of them have a dot, most ids that are given do not.
func (s *sheet) uid(name string) (int, bool) {
	if strings.IndexByte(name, '.') < 0 {
		return 0, false
	}
	if s.byUID == nil {
		s.byUID = make(map[string]int, len(s.jobs))
		for i, j := range s.jobs {
			s.byUID[j.UID] = i
		}
	}
	i, found := s.byUID[name]
	return i, found
}

// mention notes an entry that may be about several jobs: as often as there are such jobs.
func (s *sheet) mention(name string) error {
	if s.unclear == nil {
		s.unclear = make(map[string]int)
	}
	s.unclear[name]++
	n := 0
	for _, j := range s.jobs {
		if j.ID == name || j.UID == name {
			n++
		}
	}
	if s.unclear[name] > n {
		return fmt.Errorf("the reply lists a job twice: id %q", jobs.Clip(name, 80))
	}
	return nil
}

// comeBackAlone marks the jobs that share a name under which an entry stood, unless another
// entry names them by their uid.
func (s *sheet) comeBackAlone() {
	if len(s.unclear) == 0 {
		return
	}
	for i, j := range s.jobs {
		if !s.listed[i] && (s.unclear[j.ID] > 0 || s.unclear[j.UID] > 0) {
			s.replies[i] = jobs.Reply{Alone: true,
				Error: "the reply names another job of the call by the same id; answer with their rollcalluid"}
		}
	}
}

// restIsOK says ok for every job that is not listed, as SQS has it.
func (s *sheet) restIsOK() {
	for i := range s.replies {
		if !s.listed[i] {
			s.replies[i].Status = jobs.StatusOK
		}
	}
}

func (s *sheet) result(entry []byte) error {
	var e resultEntry
	if !e.plain(entry) {
		e = resultEntry{}
		if err := json.Unmarshal(entry, &e); err != nil {
			return err
		}
	}
	r, err := s.find(string(e.ID))
	if err != nil {
		return err
	}
	if r == nil {
		r = new(jobs.Reply)
	}
	switch e.Status {
	case "ok":
		r.Status = jobs.StatusOK
	case "fail":
		r.Status = jobs.StatusFail
	case "retry":
	default:
		return fmt.Errorf("it gives job %q a status other than ok, retry and fail", jobs.Clip(string(e.ID), 80))
	}
	if e.Error != "" {
		if s.masked == nil {
			s.masked = jobs.Spellings(s.secrets())
		}
		r.Error = jobs.Clip(jobs.Mask(e.Error, s.masked), maxErrorText)
	}
	r.RetryAfter = replyRetryAfter(e.RetryAfter, s.retryMax)
	r.Data = payload(e.Data)
	return nil
}

// failure reads an entry of a job that is to be retried.
func (s *sheet) failure(entry []byte) error {
	var e itemEntry
	if !e.plain(entry) {
		e = itemEntry{}
		if err := json.Unmarshal(entry, &e); err != nil {
			return err
		}
	}
	_, err := s.find(string(e.ItemIdentifier))
	return err
}

func (s *sheet) status(entry []byte) error {
	var e statusEntry
	if !e.plain(entry) {
		e = statusEntry{}
		if err := json.Unmarshal(entry, &e); err != nil {
			return err
		}
	}
	r, err := s.find(string(e.EntryID))
	if err != nil {
		return err
	}
	if r == nil {
		r = new(jobs.Reply)
	}
	switch e.Status {
	case "SUCCESS":
		r.Status = jobs.StatusOK
	case "DROP":
		r.Status = jobs.StatusFail
	case "RETRY":
	default:
		return fmt.Errorf("it gives job %q a status other than SUCCESS, RETRY and DROP", jobs.Clip(string(e.EntryID), 80))
	}
	return nil
}
