import type { FastifyReply, FastifyRequest } from 'fastify';

/** Answers a browser's question before the request proper: any origin may, with any header, without cookies. */
export function sendPreflight(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const asked = request.headers['access-control-request-headers'];
  return reply
    .code(204)
    .header('access-control-allow-methods', 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS')
    .header('access-control-allow-headers', typeof asked === 'string' ? asked : '*')
    .header('access-control-max-age', '600')
    .header('vary', 'Access-Control-Request-Headers')
    .send();
}
