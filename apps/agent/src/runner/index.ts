export * from './collect-run.ts';
export { type JournalPage, type JournalRecord, RunJournal, type WaitOptions } from './run-journal.ts';
export * from './runner-client.ts';
export * from './runner-command.ts';
export type { RunEvent, RunnerInfo, RunRecord, RunState } from './runner-messages.ts';
