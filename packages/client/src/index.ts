export type {
  AgentView,
  ApiRouter,
  ClusterStatus,
  CommitStarted,
  CommittedImage,
  ConsoleItem,
  DotfileOwner,
  DotfileView,
  FileEntry,
  FileListing,
  IdleCheckView,
  Image,
  ImageDetails,
  ImageView,
  KernelUsage,
  Metric,
  Metrics,
  ProjectUsage,
  ReasonView,
  RegistryView,
  RunStatus,
  ServiceStart,
  ServiceView,
  SessionExplanation,
  SessionHistoryEntry,
  SessionIdleView,
  SessionLogChunk,
  SessionStatisticsView,
  SessionTemplateView,
  SessionView,
  TaskView,
  UsageReport,
  Whoami,
} from '@backend.ai/contract';
export { AppError, type ErrorBody, type ErrorCode, hasCode } from '@backend.ai/core';
export {
  type Client,
  type ClientOptions,
  createClient,
  type ListSessionsOptions,
  type ProjectUsageOptions,
  type UsageReportOptions,
} from './client.ts';
export { apiVersion, authHeaders, type Credentials, type SignedRequest } from './credentials.ts';
export type { DotfileClient } from './dotfiles.ts';
export type { Fetch, FetchInit, FetchResponse } from './fetch.ts';
export { nodeFetch } from './node-fetch.ts';
export type { Rpc } from './rpc.ts';
export { Run, type RunOptions, type RunOutcome } from './run.ts';
export type { ConnectOptions, StartServiceOptions } from './services.ts';
export { type BatchCommands, type CreateSessionOptions, Session, type WaitOptions } from './session.ts';
export type { SessionTemplateClient } from './session-templates.ts';
export { Terminal, type TerminalEnd, type TerminalOptions } from './terminal.ts';
export type { OnProgress, TransferOptions, UploadSource } from './transfers.ts';
