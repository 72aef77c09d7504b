// A server on Azure Container Apps: one resource group, an address with a certificate, from one replica to several.
//
//   az deployment group create --resource-group tercet --template-file deploy/azure/container-apps.bicep
//     --parameters image=REGISTRY.azurecr.io/tercet:0.1.0 registry=REGISTRY keysFile="$(cat keys.jsonl)"
//
// Not deployed by us: the file was parsed and its names were checked, no more. docs/guides/clouds.md says what to look at.

@description('Name of the app and of what belongs to it.')
@minLength(3)
@maxLength(24)
param name string = 'tercet'

param location string = resourceGroup().location

@description('The image, built from deploy/docker/Dockerfile and pushed to the registry below.')
param image string

@description('An Azure container registry of this resource group that holds the image.')
param registry string

@description('Contents of the file of `tercet keys create`; whoever calls has one of its keys.')
@secure()
param keysFile string

@description('Processors of a replica, and threads of the server. Container Apps has fixed pairs: 2 GiB for each.')
@allowed([1, 2, 4])
param processors int = 2

@minValue(0)
@maxValue(30)
param minReplicas int = 1

@minValue(1)
@maxValue(30)
param maxReplicas int = 4

@description('Requests at one time for which there is one more replica; below max_concurrent, so that few wait.')
param requestsPerReplica int = 12

resource logs 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: '${name}-logs'
  location: location
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: 30
  }
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${name}-identity'
  location: location
}

resource images 'Microsoft.ContainerRegistry/registries@2023-07-01' existing = {
  name: registry
}

// AcrPull, so that no password of the registry is needed.
resource pull 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(images.id, identity.id, 'pull')
  scope: images
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '7f951dda-4ed3-4680-a7ca-43fe172d538d')
  }
}

resource environment 'Microsoft.App/managedEnvironments@2024-03-01' = {
  name: '${name}-environment'
  location: location
  properties: {
    appLogsConfiguration: {
      destination: 'log-analytics'
      logAnalyticsConfiguration: {
        customerId: logs.properties.customerId
        sharedKey: logs.listKeys().primarySharedKey
      }
    }
  }
}

resource app 'Microsoft.App/containerApps@2024-03-01' = {
  name: name
  location: location
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  dependsOn: [pull]
  properties: {
    managedEnvironmentId: environment.id
    configuration: {
      activeRevisionsMode: 'Single'
      ingress: {
        external: true
        targetPort: 8080
        transport: 'http'
        allowInsecure: false
      }
      registries: [
        {
          server: images.properties.loginServer
          identity: identity.id
        }
      ]
      secrets: [
        {
          name: 'keys'
          value: keysFile
        }
      ]
    }
    template: {
      terminationGracePeriodSeconds: 45
      containers: [
        {
          name: 'server'
          image: image
          args: ['serve', '--keys', '/keys/keys.jsonl', '--threads', string(processors), '--drain-delay', '5']
          resources: {
            cpu: processors
            memory: '${processors * 2}Gi'
          }
          probes: [
            {
              type: 'Startup'
              httpGet: {
                path: '/readyz'
                port: 8080
              }
              periodSeconds: 5
              failureThreshold: 10
            }
            {
              type: 'Readiness'
              httpGet: {
                path: '/readyz'
                port: 8080
              }
              periodSeconds: 3
              timeoutSeconds: 2
            }
            {
              type: 'Liveness'
              httpGet: {
                path: '/livez'
                port: 8080
              }
              periodSeconds: 10
              timeoutSeconds: 5
            }
          ]
          volumeMounts: [
            {
              volumeName: 'keys'
              mountPath: '/keys'
            }
          ]
        }
      ]
      volumes: [
        {
          name: 'keys'
          storageType: 'Secret'
          secrets: [
            {
              secretRef: 'keys'
              path: 'keys.jsonl'
            }
          ]
        }
      ]
      scale: {
        minReplicas: minReplicas
        maxReplicas: maxReplicas
        rules: [
          {
            name: 'requests'
            http: {
              metadata: {
                concurrentRequests: string(requestsPerReplica)
              }
            }
          }
        ]
      }
    }
  }
}

@description('Where the server is.')
output address string = 'https://${app.properties.configuration.ingress.fqdn}'
