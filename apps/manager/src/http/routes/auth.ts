import { AppError } from '@backend.ai/core';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { readParams, sendJson } from '../parameters.ts';
import { edgeOf } from '../request-edge.ts';
import type { RouteContext } from '../server.ts';

export function registerAuthRoutes(app: FastifyInstance, { services }: RouteContext): void {
  /** Lets a client see whether its keypair works. */
  const echo = (request: FastifyRequest, reply: FastifyReply): FastifyReply => {
    const params = readParams(request);
    const text = params.requiredText('echo');
    params.check();
    return sendJson(reply, 200, { authorized: 'yes', echo: text });
  };
  for (const url of ['/auth', '/auth/test']) app.route({ method: ['GET', 'POST'], url, handler: echo });

  app.get('/auth/role', async (request, reply) => {
    const edge = edgeOf(request);
    const params = readParams(request);
    const group = params.text('group');
    params.check();
    const { projects } = await services.auth.whoami(edge.callContext);
    if (group !== undefined && !projects.includes(group))
      throw new AppError('object-not-found', 'You are not a member of such a group.');
    const actor = edge.actor.kind === 'user' ? edge.actor : undefined;
    return sendJson(reply, 200, {
      global_role: actor?.role === 'superadmin' ? 'superadmin' : 'user',
      domain_role: actor?.role === 'superadmin' || actor?.role === 'admin' ? 'admin' : 'user',
      group_role: group === undefined ? null : 'user',
    });
  });
}
