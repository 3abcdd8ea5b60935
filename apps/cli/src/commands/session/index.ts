import type { CommandBundle } from '@backend.ai/cli-kit';
import { SessionApp } from './app.ts';
import { SessionApps } from './apps.ts';
import { SessionCommit } from './commit.ts';
import { SessionCreate } from './create.ts';
import { SessionCreateFromTemplate } from './create-from-template.ts';
import { SessionDestroy } from './destroy.ts';
import { SessionDownload } from './download.ts';
import { SessionExec } from './exec.ts';
import { SessionExplain } from './explain.ts';
import { SessionHistory } from './history.ts';
import { SessionIdle } from './idle.ts';
import { SessionInfo } from './info.ts';
import { SessionList } from './list.ts';
import { SessionLogs } from './logs.ts';
import { SessionLs } from './ls.ts';
import { SessionPause, SessionResume } from './pause.ts';
import { SessionRename } from './rename.ts';
import { SessionRestart } from './restart.ts';
import { SessionStartService } from './start-service.ts';
import { SessionStats } from './stats.ts';
import { SessionTerminal } from './terminal.ts';
import { SessionUpload } from './upload.ts';
import { SessionWait } from './wait.ts';

export const commands: CommandBundle['commands'] = [
  SessionList,
  SessionCreate,
  SessionCreateFromTemplate,
  SessionInfo,
  SessionExplain,
  SessionStats,
  SessionIdle,
  SessionWait,
  SessionExec,
  SessionTerminal,
  SessionApps,
  SessionApp,
  SessionStartService,
  SessionUpload,
  SessionDownload,
  SessionLs,
  SessionLogs,
  SessionHistory,
  SessionRename,
  SessionPause,
  SessionResume,
  SessionCommit,
  SessionRestart,
  SessionDestroy,
];
