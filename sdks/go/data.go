package temps

import "time"

// Project is a project of the platform. What is not known is an empty text or nil.
type Project struct {
	ID int32 `json:"id" wire:"required"`
	// Name is for people.
	Name string `json:"name" wire:"required"`
	// Slug is the name for URLs.
	Slug string `json:"slug" wire:"required"`
	// RepoName and RepoOwner say where the source is.
	RepoName  string `json:"repo_name"`
	RepoOwner string `json:"repo_owner"`
	// MainBranch is the branch that production is built from.
	MainBranch string `json:"main_branch"`
	// Preset is how it is built, for example "nextjs".
	Preset string `json:"preset"`
	// SourceType is where the source comes from, for example "git".
	SourceType string    `json:"source_type"`
	CreatedAt  time.Time `json:"created_at" wire:"required"`
	UpdatedAt  time.Time `json:"updated_at" wire:"required"`
	// LastDeployment is when it was last deployed, if ever.
	LastDeployment *time.Time `json:"last_deployment"`
	// EnablePreviewEnvironments says whether branches get environments of their own.
	EnablePreviewEnvironments bool `json:"enable_preview_environments"`
	// ExternalID is the platform's own id, where that is not an integer.
	ExternalID *string `json:"external_id,omitempty"`
}

// Environment is an environment of a project.
type Environment struct {
	ID        int32 `json:"id" wire:"required"`
	ProjectID int32 `json:"project_id" wire:"required"`
	// Name is for people, for example "production".
	Name string `json:"name" wire:"required"`
	// Slug is the name for URLs.
	Slug string `json:"slug" wire:"required"`
	// Branch is the one that is deployed there, if it follows one.
	Branch *string `json:"branch"`
	// IsPreview says whether it was made for a branch or a pull request.
	IsPreview bool `json:"is_preview"`
	// CurrentDeploymentID is the deployment that serves there now, if any.
	CurrentDeploymentID *int32    `json:"current_deployment_id"`
	CreatedAt           time.Time `json:"created_at" wire:"required"`
	UpdatedAt           time.Time `json:"updated_at" wire:"required"`
	// ExternalID is the platform's own id, where that is not an integer.
	ExternalID *string `json:"external_id,omitempty"`
}

// Deployment is one deployment.
type Deployment struct {
	ID            int32 `json:"id" wire:"required"`
	ProjectID     int32 `json:"project_id" wire:"required"`
	EnvironmentID int32 `json:"environment_id" wire:"required"`
	// State is one of pending, building, deploying, ready, succeeded, failed, cancelled, or a later word.
	State string `json:"state" wire:"required"`
	// URL is what it serves, once known.
	URL       *string `json:"url"`
	Branch    *string `json:"branch"`
	Tag       *string `json:"tag"`
	CommitSHA *string `json:"commit_sha"`
	// CommitMessage is the first line of the commit's message.
	CommitMessage *string   `json:"commit_message"`
	CommitAuthor  *string   `json:"commit_author"`
	CreatedAt     time.Time `json:"created_at" wire:"required"`
	// StartedAt is when work on it began, if it did.
	StartedAt *time.Time `json:"started_at"`
	// FinishedAt is when it ended, if it has.
	FinishedAt *time.Time `json:"finished_at"`
	// ExternalID is the platform's own id, where that is not an integer.
	ExternalID *string `json:"external_id,omitempty"`
}
