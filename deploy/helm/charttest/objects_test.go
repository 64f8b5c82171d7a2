package charttest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"rollcall/internal/app"
)

// scaledObject is as much of KEDA's type as the chart uses, after its reference page. The type
// itself comes with every cloud's client library.
type scaledObject struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata"`
	Spec            struct {
		ScaleTargetRef  struct{ Name string }
		MinReplicaCount int32
		MaxReplicaCount int32
		PollingInterval int32
		CooldownPeriod  int32
		Advanced        struct {
			HorizontalPodAutoscalerConfig struct {
				Behavior struct {
					ScaleDown struct{ StabilizationWindowSeconds int32 }
				}
			}
		}
		Triggers []struct {
			Type     string
			Metadata map[string]string // KEDA refuses anything but strings
		}
	}
}

// kinds are the objects that the chart may make.
func kinds() map[string]any {
	return map[string]any{
		"Deployment": &apps.Deployment{}, "Job": &batch.Job{}, "Pod": &core.Pod{}, "ServiceAccount": &core.ServiceAccount{},
		"NetworkPolicy": &networking.NetworkPolicy{}, "PodDisruptionBudget": &policy.PodDisruptionBudget{},
		"PodMonitor": &monitoring.PodMonitor{}, "PrometheusRule": &monitoring.PrometheusRule{}, "ScaledObject": &scaledObject{},
	}
}

// objects reads the manifest of an example strictly: a field that the kind does not have is an
// error, and so is a value of the wrong type.
func objects(t *testing.T, example string) map[string]any {
	t.Helper()
	found := map[string]any{}
	for name, content := range rendered(t, example) {
		if strings.HasSuffix(name, "NOTES.txt") {
			continue
		}
		var kind struct{ Kind string }
		if err := yaml.Unmarshal([]byte(content), &kind); err != nil {
			t.Fatalf("%s: %s: %v\n%s", example, name, err, content)
		}
		object, known := kinds()[kind.Kind]
		if !known {
			t.Fatalf("%s: %s makes a %q", example, name, kind.Kind)
		}
		if err := yaml.UnmarshalStrict([]byte(content), object); err != nil {
			t.Fatalf("%s: %s: %v\n%s", example, name, err, content)
		}
		found[kind.Kind] = object
	}
	return found
}

func TestObjectsAreWhatKubernetesReads(t *testing.T) {
	t.Parallel()
	made := map[string]bool{}
	for _, example := range examples {
		for kind := range objects(t, example) {
			made[kind] = true
		}
	}
	for kind := range kinds() {
		if !made[kind] {
			t.Errorf("no example makes a %s", kind)
		}
	}
}

// environment is what a container gets from the manifest.
func environment(t *testing.T, c core.Container) []string {
	t.Helper()
	var env, names []string
	for _, v := range c.Env {
		if slices.Contains(names, v.Name) {
			t.Errorf("container %s gets %s twice", c.Name, v.Name)
		}
		names = append(names, v.Name)
		env = append(env, v.Name+"="+v.Value)
	}
	return env
}

func TestWorkersTakeTheirSettings(t *testing.T) {
	t.Parallel()
	for _, example := range examples {
		all := objects(t, example)
		deployment := all["Deployment"].(*apps.Deployment)
		cfg, err := app.LoadRun(environment(t, deployment.Spec.Template.Spec.Containers[0]))
		if err != nil {
			t.Errorf("%s: %v", example, err)
			continue
		}
		grace := time.Duration(*deployment.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second
		if grace < cfg.DrainTimeout+5*time.Second {
			t.Errorf("%s: killed after %s, although the drain may take %s", example, grace, cfg.DrainTimeout)
		}
		job, set := all["Job"].(*batch.Job)
		if !set {
			continue
		}
		// It may get the Secret of the workers, with the secrets of services in it.
		secret := "ROLLCALL_SVC_" + strings.ToUpper(cfg.Targets[0].Name) + "_TOKEN=secret"
		setup, err := app.Load(append(environment(t, job.Spec.Template.Spec.Containers[0]), secret))
		if err != nil {
			t.Errorf("%s: setup: %v", example, err)
		}
		if setup.Pool != cfg.Pool || setup.NATS.URL != cfg.NATS.URL || setup.Streams.Stream != cfg.Streams.Stream ||
			!slices.Equal(setup.Streams.Subjects, cfg.Streams.Subjects) {
			t.Errorf("%s: setup and workers mean different pools:\n%+v\n%+v", example, setup.Streams, cfg.Streams)
		}
	}
}

func TestServicesKeepTheirSettings(t *testing.T) {
	t.Parallel()
	worker := objects(t, "full")["Deployment"].(*apps.Deployment).Spec.Template.Spec.Containers[0]
	env := environment(t, worker)
	for _, want := range []string{
		"ROLLCALL_SERVICES=billing=http://billing:8080/jobs,full-text=nats://svc.index",
		"ROLLCALL_SVC_BILLING_TIMEOUT=5s", "ROLLCALL_SVC_FULL_TEXT_REQUIRED=false", "ROLLCALL_BATCH_SIZE=200",
	} {
		if !slices.Contains(env, want) {
			t.Errorf("no %s in %v", want, env)
		}
	}
}

func TestEveryPodIsHardened(t *testing.T) {
	t.Parallel()
	for _, example := range examples {
		for kind, object := range objects(t, example) {
			var pod core.PodSpec
			switch o := object.(type) {
			case *apps.Deployment:
				pod = o.Spec.Template.Spec
			case *batch.Job:
				pod = o.Spec.Template.Spec
			case *core.Pod:
				pod = o.Spec
			default:
				continue
			}
			if err := hardened(pod); err != nil {
				t.Errorf("%s: %s: %v", example, kind, err)
			}
		}
	}
}

// hardened holds a pod against the restricted Pod Security Standard, and a little more.
func hardened(pod core.PodSpec) error {
	security := pod.SecurityContext
	if security == nil || !*security.RunAsNonRoot || *security.RunAsUser != 65532 || security.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		return fmt.Errorf("security context %+v", security)
	}
	if *pod.AutomountServiceAccountToken || *pod.EnableServiceLinks {
		return fmt.Errorf("gets a token or service links it has no use for")
	}
	for _, c := range pod.Containers {
		s := c.SecurityContext
		if s == nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []core.Capability{"ALL"}) {
			return fmt.Errorf("container %s: security context %+v", c.Name, s)
		}
		if c.Resources.Limits.Memory().IsZero() {
			return fmt.Errorf("container %s: no limit on memory", c.Name)
		}
	}
	return nil
}

func TestSelectorsMeetTheWorkersAndNothingElse(t *testing.T) {
	t.Parallel()
	all := objects(t, "full")
	deployment := all["Deployment"].(*apps.Deployment)
	selectors := map[string]*meta.LabelSelector{
		"Deployment":          deployment.Spec.Selector,
		"PodDisruptionBudget": all["PodDisruptionBudget"].(*policy.PodDisruptionBudget).Spec.Selector,
		"NetworkPolicy":       &all["NetworkPolicy"].(*networking.NetworkPolicy).Spec.PodSelector,
		"PodMonitor":          &all["PodMonitor"].(*monitoring.PodMonitor).Spec.Selector,
	}
	for _, c := range deployment.Spec.Template.Spec.TopologySpreadConstraints {
		selectors["spread over "+c.TopologyKey] = c.LabelSelector
	}
	for name, s := range selectors {
		selector, err := meta.LabelSelectorAsSelector(s)
		if err != nil {
			t.Fatal(err)
		}
		if !selector.Matches(set(deployment.Spec.Template.Labels)) {
			t.Errorf("%s does not meet the workers", name)
		}
		if selector.Matches(set(all["Job"].(*batch.Job).Spec.Template.Labels)) || selector.Matches(set(all["Pod"].(*core.Pod).Labels)) {
			t.Errorf("%s meets setup or doctor", name)
		}
	}
}

// set are labels as a selector reads them.
type set map[string]string

// Has implements labels.Labels.
func (s set) Has(label string) bool { _, found := s[label]; return found }

// Get implements labels.Labels.
func (s set) Get(label string) string { return s[label] }

// Lookup implements labels.Labels.
func (s set) Lookup(label string) (string, bool) { v, found := s[label]; return v, found }

func TestKedaOwnsTheNumberOfReplicas(t *testing.T) {
	t.Parallel()
	for example, trigger := range map[string]string{"full": "nats-jetstream", "keda-prometheus": "prometheus"} {
		all := objects(t, example)
		if all["Deployment"].(*apps.Deployment).Spec.Replicas != nil {
			t.Errorf("%s: the chart would reset what KEDA chose", example)
		}
		scaled := all["ScaledObject"].(*scaledObject)
		if scaled.Spec.ScaleTargetRef.Name != all["Deployment"].(*apps.Deployment).Name {
			t.Errorf("%s: scales %s", example, scaled.Spec.ScaleTargetRef.Name)
		}
		if got := scaled.Spec.Triggers[0]; got.Type != trigger || len(got.Metadata) == 0 {
			t.Errorf("%s: trigger %+v", example, got)
		}
	}
	if got := objects(t, "full")["ScaledObject"].(*scaledObject).Spec.Triggers[0].Metadata; got["consumer"] != "mail" || got["stream"] != "JOBS" {
		t.Errorf("KEDA looks at %v", got)
	}
	if got := objects(t, "keda-prometheus")["ScaledObject"].(*scaledObject).Spec.Triggers[0].Metadata; got["threshold"] != "1000000" {
		t.Errorf("threshold %q", got["threshold"])
	}
	if objects(t, "minimal")["Deployment"].(*apps.Deployment).Spec.Replicas == nil {
		t.Error("without KEDA nobody says how many replicas")
	}
}

func TestThePageHasAPortAndGuestsOfItsOwn(t *testing.T) {
	t.Parallel()
	for example, apart := range map[string]bool{"minimal": false, "full": true} {
		all := objects(t, example)
		container := all["Deployment"].(*apps.Deployment).Spec.Template.Spec.Containers[0]
		ports := map[string]string{}
		for _, p := range container.Ports {
			ports[p.Name] = fmt.Sprintf(":%d", p.ContainerPort)
		}
		cfg, err := app.LoadRun(environment(t, container))
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Web.Addr != ports["http"] || cfg.Web.PageAddr != ports["page"] || (ports["page"] != "") != apart {
			t.Errorf("%s: ports %v, settings %+v", example, ports, cfg.Web)
		}
		guests := map[string]string{} // by the port that they may ask
		for _, rule := range all["NetworkPolicy"].(*networking.NetworkPolicy).Spec.Ingress {
			for _, from := range rule.From {
				guests[rule.Ports[0].Port.StrVal] += from.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"]
			}
		}
		if apart && (guests["http"] != "monitoring" || guests["page"] != "operators") {
			t.Errorf("%s: who may ask which port: %v", example, guests)
		}
	}
	if got := objects(t, "full")["PodMonitor"].(*monitoring.PodMonitor).Spec.PodMetricsEndpoints[0].Port; *got != "http" {
		t.Errorf("Prometheus asks port %q", *got)
	}
}

// TestSetupInAPodMakesTheSameStreams: whoever is on call runs `worker setup` in a replica's pod.
func TestSetupInAPodMakesTheSameStreams(t *testing.T) {
	t.Parallel()
	for _, example := range examples {
		all := objects(t, example)
		job, set := all["Job"].(*batch.Job)
		if !set {
			continue
		}
		inPod, err := app.Load(environment(t, all["Deployment"].(*apps.Deployment).Spec.Template.Spec.Containers[0]))
		if err != nil {
			t.Fatal(err)
		}
		byHook, err := app.Load(environment(t, job.Spec.Template.Spec.Containers[0]))
		if err != nil {
			t.Fatal(err)
		}
		inPod.Streams.Ensure = byHook.Streams.Ensure
		if pod, hook := fmt.Sprintf("%+v", inPod.Streams), fmt.Sprintf("%+v", byHook.Streams); pod != hook {
			t.Errorf("%s: a replica would make %s, setup makes %s", example, pod, hook)
		}
	}
}
