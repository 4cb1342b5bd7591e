package temps

import "encoding/json"

// Payload is any payload of the specification.
type Payload interface {
	DeploymentCreated | DeploymentReady | DeploymentSucceeded | DeploymentFailed | DeploymentCancelled | ProjectSubject | EnvironmentSubject
}

// DeploymentSubject is what every payload about a deployment holds. What is not known is nil.
type DeploymentSubject struct {
	// DeploymentID is always there.
	DeploymentID int32 `json:"deployment_id" wire:"required"`
	// ProjectID is the id of its project.
	ProjectID *int32 `json:"project_id,omitempty"`
	// EnvironmentID is the id of its environment.
	EnvironmentID *int32 `json:"environment_id,omitempty"`
	// EnvironmentName is the name of its environment, for example "production".
	EnvironmentName *string `json:"environment_name,omitempty"`
	// ExternalID is the deployment's id where whoever deployed has given one that is not an integer.
	ExternalID *string `json:"external_id,omitempty"`
}

// DeploymentCreated is the payload of deployment.created: a deployment was registered.
type DeploymentCreated struct {
	DeploymentSubject
	// CommitSHA is the commit that is deployed.
	CommitSHA *string `json:"commit_sha,omitempty"`
	// Branch is the branch that it comes from.
	Branch *string `json:"branch,omitempty"`
}

// DeploymentReady is the payload of deployment.ready: it passed its health checks and serves traffic.
type DeploymentReady struct {
	DeploymentSubject
	// URL is what it serves.
	URL *string `json:"url,omitempty"`
}

// DeploymentSucceeded is the payload of deployment.succeeded: it is live and healthy.
type DeploymentSucceeded struct {
	DeploymentSubject
	// URL is what it serves.
	URL *string `json:"url,omitempty"`
	// CommitSHA is the commit that is live.
	CommitSHA *string `json:"commit_sha,omitempty"`
}

// DeploymentFailed is the payload of deployment.failed: it ended without success.
type DeploymentFailed struct {
	DeploymentSubject
	// ErrorMessage says why, for people.
	ErrorMessage *string `json:"error_message,omitempty"`
}

// DeploymentCancelled is the payload of deployment.cancelled: it was called off.
type DeploymentCancelled struct{ DeploymentSubject }

// ProjectSubject is the payload of project.created and project.deleted.
type ProjectSubject struct {
	// ProjectID is the id of the project.
	ProjectID int32 `json:"project_id" wire:"required"`
	// ProjectName is its name.
	ProjectName string `json:"project_name" wire:"required"`
	// ExternalID is the platform's own id, where that is not an integer.
	ExternalID *string `json:"external_id,omitempty"`
}

// EnvironmentSubject is the payload of environment.created and environment.deleted.
type EnvironmentSubject struct {
	// EnvironmentID is the id of the environment.
	EnvironmentID int32 `json:"environment_id" wire:"required"`
	// ProjectID is the id of its project.
	ProjectID int32 `json:"project_id" wire:"required"`
	// EnvironmentName is its name.
	EnvironmentName string `json:"environment_name" wire:"required"`
	// ExternalID is the platform's own id, where that is not an integer.
	ExternalID *string `json:"external_id,omitempty"`
}

// payloads has a reader for each event type of the specification.
var payloads = map[string]func(json.RawMessage) (any, error){
	"deployment.created":   payloadReader[DeploymentCreated],
	"deployment.ready":     payloadReader[DeploymentReady],
	"deployment.succeeded": payloadReader[DeploymentSucceeded],
	"deployment.failed":    payloadReader[DeploymentFailed],
	"deployment.cancelled": payloadReader[DeploymentCancelled],
	"project.created":      payloadReader[ProjectSubject],
	"project.deleted":      payloadReader[ProjectSubject],
	"environment.created":  payloadReader[EnvironmentSubject],
	"environment.deleted":  payloadReader[EnvironmentSubject],
}

func payloadReader[T Payload](data json.RawMessage) (any, error) {
	var payload T
	err := decode(data, &payload)
	return payload, err
}

func readPayload(eventType string, data json.RawMessage) (any, error) {
	if read, ok := payloads[eventType]; ok {
		return read(data)
	}
	var payload map[string]any
	err := json.Unmarshal(data, &payload)
	return payload, err
}
