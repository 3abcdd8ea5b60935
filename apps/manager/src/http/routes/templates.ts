import { createTemplatesSchema, modifyTemplateSchema, type SessionTemplateView } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { invalidFields, Params, readParams, sendJson } from '../parameters.ts';
import { edgeOf } from '../request-edge.ts';
import type { RouteContext } from '../server.ts';

/** Session templates in the official forms. */
export function registerTemplateRoutes(app: FastifyInstance, { services }: RouteContext): void {
  app.post('/template/session', async (request, reply) => {
    const params = readParams(request);
    const raw = {
      payload: readPayload(params),
      project: params.text('group_name', 'group', 'groupName') ?? 'default',
      domain: params.text('domain_name', 'domain', 'domainName') ?? 'default',
    };
    params.check();
    const checked = createTemplatesSchema.safeParse(raw);
    if (!checked.success)
      throw invalidFields(
        Object.fromEntries(checked.error.issues.map(({ path, message }) => [path.join('.'), message])),
      );
    const made = await services.sessionTemplate.create(checked.data, edgeOf(request).callContext);
    const answers = made.map(({ id, userId }) => ({ id: hex(id), user: hex(userId) }));
    return sendJson(reply, 200, wantsOne(request) ? answers[0] : answers);
  });

  app.get('/template/session', async (request, reply) => {
    const { callContext } = edgeOf(request);
    const templates = await services.sessionTemplate.list(callContext);
    const { email } = await services.auth.whoami(callContext);
    const answers = templates.map(({ id, name, createdAt, userId, project, domain, template }) => ({
      name,
      id: hex(id),
      created_at: createdAt,
      is_owner: true,
      user: hex(userId),
      group: project,
      user_email: email,
      group_name: project,
      domain_name: domain,
      type: 'TASK',
      template,
    }));
    return sendJson(reply, 200, answers);
  });

  app.get('/template/session/:template', async (request, reply) => {
    const { template, name, userId, project, domain } = await services.sessionTemplate.get(
      refOf(request),
      edgeOf(request).callContext,
    );
    return sendJson(reply, 200, { template, name, user_uuid: hex(userId), group_id: project, domain_name: domain });
  });

  app.put('/template/session/:template', async (request, reply) => {
    const params = readParams(request);
    const raw = { ...refOf(request), payload: readPayload(params) };
    params.check();
    const checked = modifyTemplateSchema.safeParse(raw);
    if (!checked.success) throw invalidFields({ payload: checked.error.issues[0]?.message ?? 'is not a text' });
    await services.sessionTemplate.modify(checked.data, edgeOf(request).callContext);
    return sendJson(reply, 200, { success: true });
  });

  app.delete('/template/session/:template', async (request, reply) => {
    await services.sessionTemplate.delete(refOf(request), edgeOf(request).callContext);
    return sendJson(reply, 200, { success: true });
  });
}

/** A text, or, as some clients send it, the document itself. */
function readPayload(params: Params): string {
  const value = params.value('payload');
  if (typeof value !== 'object') return params.requiredText('payload');
  try {
    return JSON.stringify(value);
  } catch {
    throw invalidFields({ payload: 'is nested too deeply' });
  }
}

function refOf(request: FastifyRequest): { template: string } {
  const { template = '' } = request.params as { template?: string };
  if (template.length > 256) throw new AppError('object-not-found', 'No such session template.');
  return { template };
}

/** Clients of 23.03 read one object, later ones a list. */
function wantsOne(request: FastifyRequest): boolean {
  return /\b23\.03\b/.test(request.headers['user-agent'] ?? '');
}

function hex(id: string): string {
  return id.replaceAll('-', '');
}

/** What was given stands, in the official names; the template has the rest. Values of `config` are replaced as a whole. */
export function withTemplate(given: Params, { session }: SessionTemplateView): Params {
  const { resources, environ, resourceGroup, designatedAgents, bootstrapScript, project, ...rest } = session;
  const config = { resources, environ, scaling_group: resourceGroup, agent_list: designatedAgents };
  const own = Object.fromEntries(
    given.entries().filter(([name]) => !['config', 'template_id', 'templateId'].includes(name)),
  );
  const aliased = (names: readonly string[], value: unknown, to: string): Record<string, unknown> =>
    value === undefined || given.value(...names) !== undefined ? {} : { [to]: value };
  return new Params({
    ...aliased(['image', 'lang'], rest.image, 'image'),
    ...aliased(['architecture', 'arch'], rest.architecture, 'architecture'),
    ...aliased(['type', 'sessionType'], rest.type, 'type'),
    ...aliased(['tag'], rest.tag, 'tag'),
    ...aliased(['startupCommand', 'startup_command'], rest.startupCommand, 'startupCommand'),
    ...aliased(['bootstrap_script', 'bootstrapScript'], bootstrapScript, 'bootstrap_script'),
    ...aliased(['group', 'groupName', 'group_name'], project, 'group'),
    ...aliased(['domain', 'domainName', 'domain_name'], rest.domain, 'domain'),
    ...own,
    config: { ...config, ...Object.fromEntries(withOfficialConfig(given.object('config').entries())) },
  });
}

const configAliases: Readonly<Record<string, string>> = { scalingGroup: 'scaling_group', agentList: 'agent_list' };

function withOfficialConfig(entries: readonly [string, unknown][]): [string, unknown][] {
  return entries.map(([name, value]) => [configAliases[name] ?? name, value]);
}
