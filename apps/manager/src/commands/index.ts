import { type CommandBundle, componentCommands } from '@backend.ai/cli-kit';
import { BackupCommand } from './backup.ts';
import { ClearHistoryCommand } from './clear-history.ts';
import { managerComponent } from './component.ts';
import { SchemaHistoryCommand } from './dbschema/history.ts';
import { SchemaMigrateCommand } from './dbschema/migrate.ts';
import { SchemaShowCommand } from './dbschema/show.ts';
import { EtcdDeleteCommand } from './etcd/delete.ts';
import { EtcdGetCommand } from './etcd/get.ts';
import { EtcdListCommand } from './etcd/list.ts';
import { EtcdPutCommand } from './etcd/put.ts';
import { FixtureListCommand } from './fixture/list.ts';
import { FixturePopulateCommand } from './fixture/populate.ts';
import { GenerateApiKeypairCommand } from './generate-api-keypair.ts';
import { InstallationKeyAddCommand } from './installation-key/add.ts';
import { InstallationKeyReencryptCommand } from './installation-key/reencrypt.ts';
import { InstallationKeyRemoveOldCommand } from './installation-key/remove-old.ts';
import { InstallationKeyShowCommand } from './installation-key/show.ts';
import { PeersListCommand } from './peers/list.ts';
import { PeersRevokeCommand } from './peers/revoke.ts';
import { PeersRotateCommand } from './peers/rotate.ts';
import { PeersTokenCommand } from './peers/token.ts';
import { RestoreCommand } from './restore.ts';
import { SchedulerLastExecutionTimeCommand } from './scheduler-last-execution-time.ts';
import { SchedulerSnapshotCommand } from './scheduler-snapshot.ts';
import { SimulateCommand } from './simulate.ts';
import { ManagerStatusCommand } from './status.ts';
import { VacuumSessionsCommand } from './vacuum-sessions.ts';
import { VerifyCommand } from './verify.ts';

export const commands: CommandBundle['commands'] = [
  ...componentCommands(managerComponent),
  ManagerStatusCommand,
  SchemaShowCommand,
  SchemaMigrateCommand,
  SchemaHistoryCommand,
  FixtureListCommand,
  FixturePopulateCommand,
  PeersTokenCommand,
  PeersListCommand,
  PeersRevokeCommand,
  PeersRotateCommand,
  InstallationKeyShowCommand,
  InstallationKeyAddCommand,
  InstallationKeyReencryptCommand,
  InstallationKeyRemoveOldCommand,
  EtcdGetCommand,
  EtcdPutCommand,
  EtcdDeleteCommand,
  EtcdListCommand,
  VerifyCommand,
  SchedulerLastExecutionTimeCommand,
  SchedulerSnapshotCommand,
  SimulateCommand,
  ClearHistoryCommand,
  VacuumSessionsCommand,
  BackupCommand,
  RestoreCommand,
  GenerateApiKeypairCommand,
];
