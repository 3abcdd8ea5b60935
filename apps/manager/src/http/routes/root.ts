import type { FastifyInstance } from 'fastify';
import { sendJson } from '../parameters.ts';
import type { RouteContext } from '../server.ts';

/** The version that 23.03.8 to 23.09 clients speak: newer clients step down to it. */
export const apiVersion = 'v7.20230615';

export function registerRootRoutes(app: FastifyInstance, context: RouteContext): void {
  const open = { config: { access: 'open' }, exposeHeadRoute: true } as const;
  app.get('/', open, (_request, reply) => sendJson(reply, 200, { version: apiVersion, manager: context.version }));
  app.get('/health', open, async (_request, reply) => {
    const { live, ready } = await context.health();
    return sendJson(reply, live && ready ? 200 : 503, { status: live && ready ? 'ok' : 'unavailable', live, ready });
  });
}
