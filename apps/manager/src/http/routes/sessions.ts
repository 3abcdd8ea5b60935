import type { SessionView } from '@backend.ai/contract';
import { AppError } from '@backend.ai/core';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type Params, readParams, sendJson, sessionOf } from '../parameters.ts';
import { edgeOf } from '../request-edge.ts';
import type { RouteContext } from '../server.ts';
import { readCreateRequest, waitUntilStarted, withOfficialNames } from './create-session.ts';
import { idleChecks, lastStat } from './live-shapes.ts';
import { publicStatus, sessionInfo, statusHistory } from './session-shapes.ts';
import { withTemplate } from './templates.ts';

export function registerSessionRoutes(app: FastifyInstance, context: RouteContext): void {
  const { services, clock } = context;

  const create = async (request: FastifyRequest, reply: FastifyReply, params: Params): Promise<FastifyReply> => {
    const edge = edgeOf(request);
    const { input, enqueueOnly, maxWaitMs } = readCreateRequest(params, clock.now());
    const { session, created } = await services.session.create(input, edge.callContext).catch((thrown: unknown) => {
      throw withOfficialNames(thrown);
    });
    const head = { sessionId: session.id, sessionName: session.name };
    // The two spellings of service ports are the official ones.
    if (!created)
      return sendJson(reply, 201, { ...head, status: publicStatus(session.status), service_ports: [], created });
    if (enqueueOnly)
      return sendJson(reply, 201, { ...head, status: publicStatus(session.status), servicePorts: [], created });
    edge.endsOnShutdown = true;
    const waited = await waitUntilStarted(context, session, maxWaitMs, edge.callContext);
    const status = waited.timedOut ? 'TIMEOUT' : publicStatus(waited.session.status);
    return sendJson(reply, 201, { ...head, status, servicePorts: [], created });
  };
  for (const url of ['/session', '/session/_/create', '/sessions'])
    app.post(url, (request, reply) => create(request, reply, readParams(request)));

  app.post('/session/_/create-from-template', async (request, reply) => {
    const params = readParams(request);
    const ref = params.text('template_id', 'templateId');
    if (ref === undefined && params.value('image', 'lang') === undefined) params.problem('template_id', 'is required');
    params.check();
    if (ref === undefined) return await create(request, reply, params);
    const template = await services.sessionTemplate.get({ template: ref }, edgeOf(request).callContext);
    return await create(request, reply, withTemplate(params, template));
  });

  app.get('/session/_/match', async (request, reply) => {
    const params = readParams(request);
    const prefix = params.requiredText('id');
    params.check();
    const sessions = await services.session.list({ all: false, limit: 1000 }, edgeOf(request).callContext);
    const matches = sessions
      .filter(({ id, name }) => id.startsWith(prefix) || name.startsWith(prefix))
      .map(({ id, name, status }) => ({ id, name, status: publicStatus(status) }));
    return sendJson(reply, 200, { matches });
  });

  app.get('/session/:session', async (request, reply) => {
    const session = sessionOf(request);
    const {
      session: view,
      statistics,
      idle,
    } = await services.session.inspect({ session }, edgeOf(request).callContext);
    const main = statistics.kernels.find(({ role }) => role === 'main');
    const live = { lastStat: main ? lastStat(main) : null, idleChecks: idleChecks(idle?.checks ?? []) };
    return sendJson(reply, 200, { ...sessionInfo(view, clock.now()), ...live });
  });

  app.delete('/session/:session', async (request, reply) => {
    const session = sessionOf(request);
    const params = readParams(request);
    const forced = params.boolean('forced') ?? false;
    const recursive = params.boolean('recursive') ?? false;
    params.check();
    const ended = await services.session.destroy({ session, forced, recursive }, edgeOf(request).callContext);
    const statsOf = ({ status }: SessionView): object =>
      status === 'CANCELLED' ? { status: 'cancelled' } : { status: 'terminated', version: 2 };
    return sendJson(reply, 200, recursive ? [ended, ...ended.dependents].map(statsOf) : { stats: statsOf(ended) });
  });

  app.patch('/session/:session', async (request, reply) => {
    const session = sessionOf(request);
    await services.session.restart({ session }, edgeOf(request).callContext);
    return reply.code(204).send();
  });

  app.post('/session/:session/rename', async (request, reply) => {
    const session = sessionOf(request);
    const params = readParams(request);
    const name = params.requiredText('name', 'session_name', 'clientSessionToken');
    params.check();
    await services.session.rename({ session, name }, edgeOf(request).callContext);
    return reply.code(204).send();
  });

  for (const verb of ['pause', 'resume'] as const) {
    app.post(`/session/:session/${verb}`, async (request, reply) => {
      const session = sessionOf(request);
      await services.session[verb]({ session }, edgeOf(request).callContext);
      return reply.code(204).send();
    });
  }

  app.post('/session/:session/commit', async (request, reply) => {
    const session = sessionOf(request);
    const params = readParams(request);
    if (params.text('filename') !== undefined) {
      throw new AppError('unsupported-feature', 'Sessions are not written into archive files.', {
        hint: 'Make an image of it: give its name as "image".',
      });
    }
    const image = params.requiredText('image', 'image_name');
    params.check();
    const started = await services.session.commit({ session, image }, edgeOf(request).callContext);
    return sendJson(reply, 201, { bgtask_id: started.taskId, image: started.image });
  });

  app.get('/session/:session/commit', async (request, reply) => {
    const session = sessionOf(request);
    const { state, kernelId } = await services.session.commitState({ session }, edgeOf(request).callContext);
    return sendJson(reply, 200, { status: state, kernel: kernelId });
  });

  app.post('/session/:session/imagify', async (request, reply) => {
    const session = sessionOf(request);
    const params = readParams(request);
    const image = params.requiredText('image_name', 'image');
    const visibility = params.text('image_visibility') ?? 'user';
    params.check();
    if (visibility !== 'user') {
      throw new AppError('unsupported-feature', `Images of sessions are their owner's, not a ${visibility}'s.`);
    }
    const { taskId } = await services.session.commit({ session, image }, edgeOf(request).callContext);
    return sendJson(reply, 200, { task_id: taskId });
  });

  app.get('/session/:session/status-history', async (request, reply) => {
    const session = sessionOf(request);
    const entries = await services.session.history({ session }, edgeOf(request).callContext);
    return sendJson(reply, 200, { result: statusHistory(entries) });
  });

  app.get('/session/:session/logs', async (request, reply) => {
    const session = sessionOf(request);
    const { logs } = await services.session.logs({ session }, edgeOf(request).callContext);
    return sendJson(reply, 200, { result: { logs } });
  });
}
