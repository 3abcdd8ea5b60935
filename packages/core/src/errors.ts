/**
 * The one error of the platform.
 *
 * A code is stable and tells what happened; its category tells what the caller can do about it; the message is for
 * people; `detail` is for logs only. Each edge (REST, tRPC, CLI) translates once, by code.
 */

/** What the caller can do: a decision, not a description. */
export type ErrorCategory =
  | 'fix-input'
  | 'log-in'
  | 'forbidden'
  | 'not-found'
  | 'conflict'
  | 'wait'
  | 'retry'
  | 'operator';

interface CodeEntry {
  readonly category: ErrorCategory;
  /** The next step when the place that throws has nothing better to say. */
  readonly hint: string;
}

const entry = (category: ErrorCategory, hint: string): CodeEntry => ({ category, hint });

/** All codes in one table. A code is never renamed or reused. */
export const errorCodes = {
  // Input
  'invalid-input': entry('fix-input', 'Correct the named fields and try again.'),
  'malformed-body': entry('fix-input', 'Send a JSON object with the content type application/json.'),
  'invalid-session-name': entry(
    'fix-input',
    'Use 4 to 64 letters, digits, "_", "-" or ".", starting and ending with a letter, digit or "_".',
  ),
  'invalid-path': entry('fix-input', "Name a path inside the session's home folder /home/work."),
  'unknown-image': entry('fix-input', 'List what is offered with: ./backend.ai image list'),
  'unknown-slot': entry('fix-input', 'Known resources are listed by: ./backend.ai ag list-slots'),
  'insufficient-capacity': entry('fix-input', 'Ask for less; see what agents offer with: ./backend.ai status'),
  'unsupported-feature': entry('fix-input', 'Leave the option out; it is not part of this version.'),
  'callback-forbidden': entry('fix-input', 'Name a URL on a public address.'),
  'payload-too-large': entry('fix-input', 'Send less at once, or in several parts.'),
  // Identity
  'auth-missing': entry('log-in', 'Run: ./backend.ai login'),
  'auth-malformed': entry('log-in', 'Check the Authorization header, or run: ./backend.ai login'),
  'auth-clock-skew': entry(
    'log-in',
    "Set this machine's clock; it may differ by at most 15 minutes from the server's.",
  ),
  'auth-unknown-key': entry('log-in', 'Check the access key, or run: ./backend.ai login'),
  'auth-bad-signature': entry('log-in', 'Check the secret key, or run: ./backend.ai login'),
  'peer-rejected': entry('operator', 'Join the peer again with a new token.'),
  forbidden: entry('forbidden', 'Ask an administrator for the permission.'),
  'impersonation-forbidden': entry(
    'forbidden',
    'Administrators act for users of their domain, superadmins for everybody; nobody acts for a higher role.',
  ),
  // Absent or in the way
  'session-not-found': entry('not-found', 'List your sessions with: ./backend.ai ps'),
  'kernel-not-found': entry('not-found', 'The session has ended; create a new one.'),
  'run-not-found': entry('not-found', 'Start the execution again; finished ones are forgotten after a while.'),
  'file-not-found': entry('not-found', 'List files with: ./backend.ai session exec NAME -- ls'),
  'object-not-found': entry('not-found', 'Check the name.'),
  'route-not-found': entry('not-found', 'Check the URL and the API version.'),
  'method-not-allowed': entry('fix-input', 'Use a method that this URL offers.'),
  'too-many-matches': entry('fix-input', 'Name it by its full id.'),
  'object-exists': entry('conflict', 'Choose another name, or modify the one that is there.'),
  'has-sessions': entry('conflict', 'End these sessions first: ./backend.ai session destroy ID'),
  'has-dependents': entry('conflict', 'Remove first what belongs to it.'),
  'last-superadmin': entry('conflict', 'Make another user a superadmin with an active key pair first.'),
  'session-exists': entry('conflict', 'Choose another name, or destroy the existing session first.'),
  'session-not-running': entry(
    'conflict',
    'Wait until it runs: ./backend.ai session explain NAME tells why it does not.',
  ),
  'session-paused': entry('conflict', 'Let it go on first: ./backend.ai session resume NAME'),
  'quota-exceeded': entry(
    'conflict',
    'Ask for less, end or cancel sessions, or ask an administrator for another resource policy.',
  ),
  'kernel-busy': entry('wait', 'Wait for the running execution, or interrupt it.'),
  'state-conflict': entry('conflict', 'Look at the present state and decide again.'),
  'stale-epoch': entry('operator', 'Another manager leads; this one must step down.'),
  // What happened to a session or a program
  'session-failed': entry('retry', 'See why with: ./backend.ai session info NAME'),
  'service-failed': entry('fix-input', 'See what it wrote with: ./backend.ai session logs NAME'),
  'wait-timeout': entry('wait', 'It stays queued; follow it with: ./backend.ai session info NAME'),
  'execution-timeout': entry('fix-input', 'Give it more time with --timeout, or make it stop by itself.'),
  'program-failed': entry('fix-input', "What it wrote tells why; the exit code is the program's own."),
  'program-killed': entry(
    'fix-input',
    'SIGSEGV, SIGABRT, SIGILL and SIGFPE are faults in native code; look for what sent SIGKILL or SIGTERM in the program.',
  ),
  'out-of-memory': entry('fix-input', 'Ask for more memory (-r mem=2g), or use less.'),
  'process-limit-reached': entry('fix-input', 'Start fewer processes or threads at once.'),
  'output-limit-exceeded': entry('fix-input', 'Write large output to a file and download it.'),
  'disk-full': entry('fix-input', 'Remove files that nobody needs; operators make room on the disk of the agent.'),
  'kernel-lost': entry('retry', 'Create the session again.'),
  'kernel-start-failed': entry(
    'retry',
    "Create it again; if it fails again, an operator finds the cause in the agent's log.",
  ),
  'image-not-found': entry('fix-input', 'The registry has it no more: rescan it with: ./backend.ai image rescan'),
  'image-pull-denied': entry(
    'operator',
    'Correct the credentials: ./backend.ai admin registry update NAME --username …',
  ),
  'image-pull-failed': entry('retry', "Try again; if it fails again, look at the registry and the agent's log."),
  'image-commit-failed': entry('retry', 'Try again; if it fails again, operators see why at the container engine.'),
  'image-in-use': entry('conflict', 'End the sessions that were made of it first.'),
  'registry-denied': entry('operator', 'Correct the credentials: ./backend.ai admin registry update NAME --username …'),
  'registry-unreachable': entry('retry', 'Is the registry up, and its URL right? ./backend.ai admin registry list'),
  'registry-answer-invalid': entry('operator', 'Is it a Docker registry (v2)? Its answer is in the log.'),
  // Waiting and machinery
  'rate-limited': entry('wait', 'Slow down and try again in a while.'),
  'no-agent': entry('wait', 'Wait for an agent to join, or start one.'),
  'agent-unreachable': entry('retry', 'Try again in a moment.'),
  'connection-lost': entry('retry', 'Try again; ask for the state first if the call changed something.'),
  'deadline-exceeded': entry('retry', 'The outcome is unknown: ask for the state, then decide.'),
  cancelled: entry('retry', 'Try again if it was not meant to be cancelled.'),
  'shutting-down': entry('retry', 'Try again when the service is back.'),
  'server-unreachable': entry('retry', 'Is the cluster up? Start one with: ./backend.ai up --detach'),
  'isolation-unavailable': entry(
    'operator',
    'See what is missing with: ./backend.ai doctor (or accept the risk with --allow-unisolated).',
  ),
  'engine-unavailable': entry('retry', 'Try again in a moment; operators see why with: docker info'),
  'engine-failed': entry('operator', 'See the log of the container engine.'),
  'port-in-use': entry(
    'operator',
    'Stop what uses the port, or choose another one: up --port NUMBER, 0 for any; servers have it in their settings.',
  ),
  'data-directory-locked': entry(
    'operator',
    'Stop that process first (an embedded cluster: ./backend.ai down), or use another folder.',
  ),
  'config-invalid': entry('operator', 'Correct the configuration.'),
  'not-implemented': entry('operator', 'This version does not offer it.'),
  internal: entry('operator', 'Give the request id to an operator; details are in the log.'),
} as const satisfies Record<string, CodeEntry>;

export type ErrorCode = keyof typeof errorCodes;

export interface AppErrorOptions {
  /** The next step, when this place knows a better one than the table. */
  readonly hint?: string | undefined;
  /** Structured public facts: field errors, matches, limits. JSON only. */
  readonly data?: Record<string, unknown> | undefined;
  /** For logs only; never sent to callers. */
  readonly detail?: unknown;
  readonly cause?: unknown;
  /** Set at an edge when the error came from another component. */
  readonly requestId?: string | undefined;
}

/** The public form of an error, as it travels over every link. */
export interface ErrorBody {
  readonly code: ErrorCode;
  readonly category: ErrorCategory;
  readonly message: string;
  readonly hint: string;
  readonly data?: Record<string, unknown> | undefined;
  readonly requestId?: string | undefined;
}

export class AppError extends Error {
  override readonly name = 'AppError';
  readonly code: ErrorCode;
  readonly hint: string;
  readonly data: Record<string, unknown> | undefined;
  readonly detail: unknown;
  readonly requestId: string | undefined;

  /** @param message One sentence for people that tells this failure and no other; causes stay in `cause`. */
  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint ?? errorCodes[code].hint;
    this.data = options.data;
    this.detail = options.detail;
    this.requestId = options.requestId;
  }

  get category(): ErrorCategory {
    return errorCodes[this.code].category;
  }

  toBody(requestId?: string): ErrorBody {
    return {
      code: this.code,
      category: this.category,
      message: this.message,
      hint: this.hint,
      ...(this.data === undefined ? {} : { data: this.data }),
      requestId: this.requestId ?? requestId,
    };
  }

  static fromBody(body: ErrorBody): AppError {
    const code = Object.hasOwn(errorCodes, body.code) ? body.code : 'internal';
    return new AppError(code, body.message, { hint: body.hint, data: body.data, requestId: body.requestId });
  }

  /**
   * Anything thrown, as an AppError: the nearest one in its chain of causes, as libraries wrap what they call; what is
   * not known becomes `internal` and keeps its cause for the log.
   */
  static from(thrown: unknown): AppError {
    for (let error = thrown; error instanceof Error; error = error.cause) if (error instanceof AppError) return error;
    return new AppError('internal', 'An unexpected error happened.', { cause: thrown });
  }
}

export function isErrorBody(value: unknown): value is ErrorBody {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as ErrorBody).code === 'string' &&
    typeof (value as ErrorBody).message === 'string'
  );
}

export function hasCode(thrown: unknown, ...codes: ErrorCode[]): thrown is AppError {
  return thrown instanceof AppError && codes.includes(thrown.code);
}
