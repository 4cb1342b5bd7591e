package temps

import (
	"context"
	"encoding/json"
)

// Platform asks the platform for its projects, environments and deployments. Each call waits for its answer, [RequestTimeout] at
// most, or until its context ends. When there is no result it returns a [*ChannelError], whose Code says why.
type Platform struct{ channel *channel }

// DeploymentQuery bounds what is asked of a project's deployments.
type DeploymentQuery struct {
	// EnvironmentID leaves out those of other environments; 0 takes in all.
	EnvironmentID int32
	// Limit is 1 to 100; 0 stands for the host's default of 20.
	Limit int
}

// GetProject is one project.
func (p Platform) GetProject(ctx context.Context, projectID int32) (Project, error) {
	return ask[Project](ctx, p.channel, "get_project", map[string]any{"project_id": projectID})
}

// ListProjects is all projects that the plugin may see.
func (p Platform) ListProjects(ctx context.Context) ([]Project, error) {
	return ask[[]Project](ctx, p.channel, "list_projects", nil)
}

// GetEnvironment is one environment.
func (p Platform) GetEnvironment(ctx context.Context, environmentID int32) (Environment, error) {
	return ask[Environment](ctx, p.channel, "get_environment", map[string]any{"environment_id": environmentID})
}

// ListEnvironments is the environments of a project.
func (p Platform) ListEnvironments(ctx context.Context, projectID int32) ([]Environment, error) {
	return ask[[]Environment](ctx, p.channel, "list_environments", map[string]any{"project_id": projectID})
}

// GetDeployment is one deployment.
func (p Platform) GetDeployment(ctx context.Context, deploymentID int32) (Deployment, error) {
	return ask[Deployment](ctx, p.channel, "get_deployment", map[string]any{"deployment_id": deploymentID})
}

// GetLastDeployment is the newest deployment of a project, in one environment unless environmentID is 0. Without any the code of
// the error is [CodeNotFound].
func (p Platform) GetLastDeployment(ctx context.Context, projectID, environmentID int32) (Deployment, error) {
	params := map[string]any{"project_id": projectID}
	if environmentID != 0 {
		params["environment_id"] = environmentID
	}
	return ask[Deployment](ctx, p.channel, "get_last_deployment", params)
}

// ListDeployments is deployments of a project, newest first.
func (p Platform) ListDeployments(ctx context.Context, projectID int32, query DeploymentQuery) ([]Deployment, error) {
	params := map[string]any{"project_id": projectID}
	if query.EnvironmentID != 0 {
		params["environment_id"] = query.EnvironmentID
	}
	if query.Limit != 0 {
		params["limit"] = query.Limit
	}
	return ask[[]Deployment](ctx, p.channel, "list_deployments", params)
}

// GetConfig is the plugin's settings, asked for anew. [Plugin.Config] has them without asking.
func (p Platform) GetConfig(ctx context.Context) (Configuration, error) {
	return ask[Configuration](ctx, p.channel, "get_config", nil)
}

// Call asks a method by its name, for methods that are not here. The result is what the host says, unread.
func (p Platform) Call(ctx context.Context, method string, params map[string]any) (json.RawMessage, error) {
	return ask[json.RawMessage](ctx, p.channel, method, params)
}

func ask[T any](ctx context.Context, channel *channel, method string, params map[string]any) (T, error) {
	var result T
	err := channel.request(ctx, method, params, &result)
	return result, err
}
