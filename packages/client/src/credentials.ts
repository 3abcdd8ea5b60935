import { signRequest } from '@backend.ai/core';

export interface Credentials {
  readonly accessKey: string;
  readonly secretKey: string;
}

/** The version of the wire protocol this SDK speaks. */
export const apiVersion = 'v7.20230615';

export interface SignedRequest {
  readonly method: string;
  readonly url: URL;
  /** Absent on requests without a body: the signature then counts it as `application/octet-stream`. */
  readonly contentType?: string | undefined;
  readonly now: Date;
}

/** The headers that prove who sends a request. */
export function authHeaders(credentials: Credentials, request: SignedRequest): Record<string, string> {
  const date = request.now.toISOString();
  const signature = signRequest(credentials.secretKey, {
    method: request.method,
    target: request.url.pathname + request.url.search,
    date,
    day: date.slice(0, 10).replaceAll('-', ''),
    host: request.url.host,
    contentType: request.contentType?.split(';')[0]?.trim() ?? 'application/octet-stream',
    version: apiVersion,
  });
  return {
    date,
    'x-backendai-version': apiVersion,
    authorization: `BackendAI signMethod=HMAC-SHA256, credential=${credentials.accessKey}:${signature}`,
  };
}
