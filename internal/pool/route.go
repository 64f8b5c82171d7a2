package pool

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rollcall/internal/jobs"
)

// route decides, at every attempt anew, which services each job is for, and which jobs need none:
// those past their deadline, and those that no service takes or that name one the pool does not
// have. It changes the jobs, which belong to this batch alone.
func (x *executor) route(members []*jobs.Job, now time.Time) {
	skipped := 0
	for _, j := range members {
		if j.Verdict == nil && !j.Deadline.IsZero() && !now.Before(j.Deadline) {
			j.Verdict = &jobs.Verdict{Outcome: jobs.Expired, Reason: jobs.ReasonDeadline}
		}
		j.Route = nil
		if j.Verdict != nil {
			continue
		}
		var fault string
		if j.Route, fault = x.routeOf(j); fault != "" {
			j.Route, j.Verdict = nil, &jobs.Verdict{Outcome: jobs.Invalid, Reason: fault}
			continue
		}
		for _, takes := range j.Route {
			if !takes {
				skipped++
			}
		}
	}
	x.observer.Event(jobs.Skipped, skipped)
}

// routeOf returns for each service whether it takes the job, nil if all do, and why the job cannot
// be done at all.
func (x *executor) routeOf(j *jobs.Job) (route []bool, fault string) {
	for _, name := range j.Services {
		if !slices.ContainsFunc(x.specs, func(s jobs.Spec) bool { return s.Name == name }) {
			return nil, fmt.Sprintf("header %s names %q, and this pool has no such service; it has %s",
				jobs.HeaderServices, jobs.Clip(name, 64), x.names())
		}
	}
	takers := 0
	for i, s := range x.services {
		named := len(j.Services) == 0 || slices.Contains(j.Services, s.Name())
		if named && s.Takes(j.Subject) {
			takers++
			continue
		}
		if route == nil {
			route = slices.Repeat([]bool{true}, len(x.services))
		}
		route[i] = false
	}
	switch {
	case takers > 0:
		return route, ""
	case len(j.Services) > 0:
		return nil, fmt.Sprintf("header %s names %s, and none of them takes the subject %s; see ROLLCALL_SVC_<NAME>_SUBJECTS",
			jobs.HeaderServices, jobs.Clip(strings.Join(j.Services, ", "), 128), jobs.Clip(j.Subject, 128))
	default:
		return nil, fmt.Sprintf("no service of this pool takes the subject %s; see ROLLCALL_SVC_<NAME>_SUBJECTS", jobs.Clip(j.Subject, 128))
	}
}

func (x *executor) names() string {
	names := make([]string, len(x.specs))
	for i, s := range x.specs {
		names[i] = s.Name
	}
	return strings.Join(names, ", ")
}
